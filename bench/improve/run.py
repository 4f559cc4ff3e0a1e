"""Measure the steps of `pilothouse build`: one section each, resumable within and between sections."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

from ...router.denormals import as_zero
from ...store.errors import UsageError
from ..circumstances import facts
from ..page import Report, Section
from .lab import Lab, Piece, load, page, save

# name -> module beside this one, which has a `section`; it names the parameters it needs among lab, seeds,
# seed, quick, say, before and data, and returns a page's Section
SECTIONS: dict[str, str] = {
    "persyn": "persyn",
    "nsds": "nsds",
    "cofitune": "cofitune",
    "shifcon": "shifcon",
    "fusion": "fusion",
    "edit-prune": "edit_prune",
    "factory": "factory",
    "starter": "starter",
}
COMPARES = "starter"  # with an earlier family, which must be named
SEEDS = 3
SOURCES = Path("../shared/data")
ABOUT = (
    "Each step of [recipes](../build.md) against its baselines and controls, on small models trained here "
    "from scratch, where what is right is known by construction. Negative results stay."
)


def run(
    sections: Sequence[str],
    out: Path,
    work: Path,
    seed: int,
    seeds: int,
    quick: bool,
    say: Callable[[str], None] = lambda line: None,
    before: Path | None = None,
    data: Path = SOURCES,
) -> Report:
    """Run the named sections (none: all that need no earlier family) and write ``improve.md`` and
    ``improve.json`` into ``out``.

    Finished trials below ``work`` are not run again; sections measured before stay on the page.

    Raises:
        UsageError: there is no such section.
    """
    here = [n for n, module in SECTIONS.items() if find_spec(f"{__package__}.{module}")]
    unknown = [n for n in sections if n not in here]
    if unknown:
        raise UsageError(f"there is no section {unknown[0]!r}: there are {', '.join(here)}")
    kept = out / "improve.json"
    pieces = load(kept)
    lab = Lab(work, tuple(range(seed, seed + (1 if quick else seeds))), quick, say)
    for name in sections or [n for n in here if n != COMPARES or before is not None]:
        start = time.monotonic()
        with as_zero():
            found = measured(import_module(f".{SECTIONS[name]}", __package__).section, lab, before, data)
        say(f"{name}: {time.monotonic() - start:.0f} s")
        command = f"pilothouse bench improve --section {name} --seed {seed} --seeds {len(lab.seeds)}"
        command += " --before FAMILY" if name == COMPARES else ""
        pieces[name] = Piece(found, facts(command + (" --quick" if quick else ""), seed))
        save(pieces, kept)
        report = page(pieces, list(SECTIONS), ABOUT)
        (out / "improve.md").write_text(report.markdown(), encoding="utf-8")
    return page(pieces, list(SECTIONS), ABOUT)


def measured(
    section: Callable[..., Section], lab: Lab, before: Path | None = None, data: Path = SOURCES
) -> Section:
    """Call a section with what it asks for."""
    offered = {"lab": lab, "seeds": lab.seeds, "seed": lab.seeds[0], "quick": lab.quick, "say": lab.say}
    offered |= {"before": before, "data": data}
    asked = signature(section).parameters
    return section(**{name: value for name, value in offered.items() if name in asked})
