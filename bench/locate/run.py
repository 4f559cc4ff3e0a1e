"""Measure the methods of `router/locate`, and what acts on what they find: planted truth, trained toys, real
models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from ...specialists.family import Family
from ..circumstances import facts
from ..page import Report
from ..resume import Part, digest, run_parts
from . import arithmetic, bias, bridges, hops, incontext, localizers, lora, real, resting, story, trunk

SEEDS = 3
MEASURED = ("router/locate", "router/steer", "bench/locate", "kernels")
ABOUT = (
    "Each method of `pilothouse locate` on models where the truth is known: a Llama whose facts are wired "
    "into places drawn by a seed, toys trained in seconds, the shipped trunk with an untrained twin, and "
    "two models that others trained. What also works on a control does not work."
)


def run(
    family: str,
    data: Path | None,
    out: Path,
    seed: int,
    quick: bool,
    say: Callable[[str], None] = lambda line: None,
    fresh: bool = False,
    only: Collection[str] = (),
) -> Report:
    """Run every section that `out` does not hold yet and write `locate.md` and `locate.json`. `quick`: one
    seed and few prompts. `fresh`: measure all again; `only`: these sections.
    """
    seeds = [seed] if quick else [seed + i for i in range(SEEDS)]
    opened = Family.open(family)
    folder, count = opened.trunk_folder, 4 if quick else 12
    parts: list[Part] = [
        ("six localizers", lambda: localizers.section(seeds, seed)),
        ("facts", lambda: localizers.facts_section(seeds, seed)),
        ("two hops", lambda: hops.section(seeds, seed, quick)),
        ("comparing", lambda: arithmetic.section(seeds, seed, quick)),
        ("adapter", lambda: lora.section(seeds, seed, quick)),
        ("in-context heads", lambda: incontext.section(seeds, seed, quick)),
        ("bias neurons", lambda: bias.section(seeds, seed, quick)),
        ("attribution on the trunk", lambda: trunk.attribution(folder, count, seed, out)),
        ("sinks of a toy", lambda: resting.section(seeds, seed, quick)),
        ("two hops of the trunk", lambda: bridges.section(folder, data, 24 if quick else 240, seed)),
        ("attention sinks", lambda: trunk.sinks(folder, count, seeds, seed, out)),
        ("stories260K", lambda: real.section(data, count, seed)),
        ("tinystories-ple-c3M", lambda: real.ple_section(data, count, seed)),
        ("steering a story", lambda: story.section(data, seed, quick)),
    ]
    command = f"pilothouse bench locate --seed {seed}{' --quick' if quick else ''}"
    report = Report("Locating what an answer comes from", ABOUT, facts(command, seed))
    stamp = f"{command} {opened.trunk_fingerprint[:12]} {digest(MEASURED)}"
    return run_parts(report, out / "locate.md", parts, stamp, say, fresh, only)
