"""Measure `router/features`: recipes on planted dictionaries, loaders, the shipped dictionary and its
labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from ...specialists.family import Family
from ..circumstances import facts
from ..page import Report
from ..resume import Part, digest, run_parts
from . import loaders, recipes, trunk

SEEDS = 3
MEASURED = ("router/features", "bench/features", "kernels")
ABOUT = (
    "Trainers on data whose dictionary is known, loaders on files written in every layout, and the "
    "dictionary that ships with the family inside its trunk. Controls: one step of training, an untrained "
    "trunk, swapped labels."
)


def run(
    family: str,
    out: Path,
    seed: int,
    quick: bool,
    say: Callable[[str], None] = lambda line: None,
    fresh: bool = False,
    only: Collection[str] = (),
) -> Report:
    """Run every section that `out` does not hold yet and write `features.md` and `features.json`. `quick`:
    one seed and a tenth of the steps. `fresh`: measure all again; `only`: these sections.
    """
    seeds = [seed] if quick else [seed + i for i in range(SEEDS)]
    share = 0.1 if quick else 1.0
    opened = Family.open(family)
    parts: list[Part] = [
        ("planted dictionaries", lambda: recipes.recovery_section(seeds, seed, share)),
        ("dead latents", lambda: recipes.dead_section(seeds, seed, share)),
        ("hierarchy", lambda: recipes.hierarchy_section(seeds, seed, share)),
        ("loaders", lambda: loaders.section(seed)),
        ("the family's dictionary", lambda: trunk.section(opened, seeds, seed, quick, out)),
        ("own texts", lambda: trunk.faithful_section(opened, seeds, seed, share)),
    ]
    command = f"pilothouse bench features --seed {seed}{' --quick' if quick else ''}"
    report = Report("Features: training, loading, judging dictionaries", ABOUT, facts(command, seed))
    stamp = f"{command} {opened.trunk_fingerprint[:12]} {digest(MEASURED)}"
    return run_parts(report, out / "features.md", parts, stamp, say, fresh, only)
