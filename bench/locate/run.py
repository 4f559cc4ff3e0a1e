"""Measure the methods of `router/locate`: planted facts, a trained arithmetic toy, the shipped trunk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...specialists.family import Family
from ..circumstances import facts
from ..page import Report, Section
from . import arithmetic, localizers, real, trunk

SEEDS = 3
ABOUT = (
    "Each method of `pilothouse locate` on models where the truth is known: a Llama whose facts are wired "
    "into "
    "places drawn by a seed, a toy trained on modular addition, and the shipped trunk with an untrained "
    "twin. "
    "What also works on a control does not work."
)


def run(
    family: str,
    data: Path | None,
    out: Path,
    seed: int,
    quick: bool,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Run every section and write `locate.md` into `out`. `quick`: one seed and few prompts."""
    seeds = [seed] if quick else [seed + i for i in range(SEEDS)]
    folder = Family.open(family).trunk_folder
    count = 4 if quick else 12
    parts: list[tuple[str, Callable[[], Section | None]]] = [
        ("six localizers", lambda: localizers.section(seeds, seed)),
        ("facts", lambda: localizers.facts_section(seeds, seed)),
        ("comparing", lambda: arithmetic.section(seeds, seed, quick)),
        ("attribution on the trunk", lambda: trunk.attribution(folder, count, seed, out)),
        ("attention sinks", lambda: trunk.sinks(folder, count, seeds, seed, out)),
        ("a model nobody here trained", lambda: real.section(data, count, seed)),
    ]
    command = f"pilothouse bench locate --seed {seed}{' --quick' if quick else ''}"
    report = Report("Locating what an answer comes from", ABOUT, facts(command, seed))
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts:
        start = time.monotonic()
        found = part()
        say(f"{name}: {time.monotonic() - start:.0f} s" if found else f"{name}: left out, no data")
        if found is not None:
            report = replace(report, sections=(*report.sections, found))
        # what was measured stays, should the run be stopped
        (out / "locate.md").write_text(report.markdown(), encoding="utf-8")
    say(f"wrote {out / 'locate.md'}")
    return report
