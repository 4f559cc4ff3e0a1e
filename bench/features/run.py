"""Measure `router/features`: recipes on planted dictionaries, loaders, the shipped dictionary and its
labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...specialists.family import Family
from ..circumstances import facts
from ..page import Report, Section
from . import loaders, recipes, trunk

SEEDS = 3
ABOUT = (
    "Trainers on data whose dictionary is known, loaders on files written in every layout, and the "
    "dictionary "
    "that "
    "ships with the family inside its trunk. Controls: one step of training, an untrained trunk, swapped "
    "labels."
)


def run(
    family: str, out: Path, seed: int, quick: bool, say: Callable[[str], None] = lambda line: None
) -> Report:
    """Run every section and write `features.md` into `out`. `quick`: one seed and a tenth of the steps."""
    seeds = [seed] if quick else [seed + i for i in range(SEEDS)]
    share = 0.1 if quick else 1.0
    opened = Family.open(family)
    parts: list[tuple[str, Callable[[], Section]]] = [
        ("recovery", lambda: recipes.recovery_section(seeds, seed, share)),
        ("dead latents", lambda: recipes.dead_section(seeds, seed, share)),
        ("hierarchy", lambda: recipes.hierarchy_section(seeds, seed, share)),
        ("loaders", lambda: loaders.section(seed)),
        ("the family's dictionary", lambda: trunk.section(opened, seeds, seed, quick, out)),
        ("own texts", lambda: trunk.faithful_section(opened, seeds, seed, share)),
    ]
    command = f"pilothouse bench features --seed {seed}{' --quick' if quick else ''}"
    report = Report("Features: training, loading, judging dictionaries", ABOUT, facts(command, seed))
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts:
        start = time.monotonic()
        found = part()
        say(f"{name}: {time.monotonic() - start:.0f} s")
        report = replace(report, sections=(*report.sections, found))
        # what was measured stays, should the run be stopped
        (out / "features.md").write_text(report.markdown(), encoding="utf-8")
    say(f"wrote {out / 'features.md'}")
    return report
