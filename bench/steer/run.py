"""Measure what `router/steer` makes: CorrSteer and CRL on planted toys, the choice of strength, the gate."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from ...specialists.family import Family
from ..circumstances import facts
from ..page import Report
from ..resume import Part, digest, run_parts
from . import concept, control, family, gate, hint

SEEDS = 3
MEASURED = (
    "router/steer",
    "router/features/correlate.py",
    "router/features/faithful.py",
    "bench/steer",
    "bench/locate/ple.py",
    "kernels",
)
ABOUT = (
    "Makers of steering entries where the truth is known: small Llamas trained so that the right answer "
    "hangs on planted directions. Controls: shuffled labels and rewards, random features, random directions "
    "of equal norm. "
    "Then the shipped family's own specialists."
)


def run(
    name: str,
    data: Path | None,
    out: Path,
    seed: int,
    quick: bool,
    say: Callable[[str], None] = lambda line: None,
    fresh: bool = False,
    only: Collection[str] = (),
) -> Report:
    """Run every section that `out` does not hold yet; write `steer.md` and `steer.json`.

    `quick`: one seed, few prompts. `fresh`: measure all again; `only`: measure these sections again.
    """
    seeds = [seed] if quick else [seed + i for i in range(SEEDS)]
    opened = Family.open(name)
    parts: list[Part] = [
        ("CorrSteer", lambda: hint.section(seeds, seed, quick, out)),
        ("CRL", lambda: control.section(seeds, seed, quick, out)),
        ("gate", lambda: gate.section(seeds, seed, quick, out)),
        ("others' models", lambda: concept.section(data, seed, quick, say)),
        ("family", lambda: family.section(opened, data, seed, quick, say)),
    ]
    command = f"pilothouse bench steer --seed {seed}{' --quick' if quick else ''}"
    report = Report("Steering entries: found, tuned, admitted", ABOUT, facts(command, seed))
    stamp = f"{command} {opened.trunk_fingerprint[:12]} {digest(MEASURED)}"
    return run_parts(report, out / "steer.md", parts, stamp, say, fresh, only)
