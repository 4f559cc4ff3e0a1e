"""CoFiTune's coarse level: search for the layer range and module whose training buys speciality most cheaply.

Zhang et al., 'Balancing Speciality and Versatility' (2024). Uni = speciality + versatility. A tree search
tries attention and feed-forward in broad ranges (half of the layers), splits the winner into narrow ones (a
quarter), and then tries the winner's single maps (a reconstruction: that step's text could not be read).
Every trial is kept, so a killed search goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from .crew import crew
from .finetune_full import Module

SPLIT: dict[Module, tuple[Module, ...]] = {"ffn": ("up", "down"), "mha": ("qkv",)}


@dataclass(frozen=True, order=True)
class Region:
    """Decoder layers [first, last) and the kind of linear map in them that learns."""

    first: int
    last: int
    module: Module

    @property
    def name(self) -> str:
        """What its trial is kept under."""
        return f"{self.module}-{self.first}-{self.last}"


@dataclass(frozen=True)
class Scores:
    """Held-out accuracy on the new skill, and the mean over what the model could do before."""

    speciality: float
    versatility: float

    @property
    def uni(self) -> float:
        """Speciality plus versatility."""
        return self.speciality + self.versatility


Runner = Callable[[Sequence[Region]], list[Scores]]


def broad(layers: int) -> list[tuple[int, int]]:
    """The three overlapping halves of the layers."""
    half, step = layers // 2, max(1, layers // 4)
    return sorted({(start, start + half) for start in (0, step, layers - half)})


def narrow(first: int, last: int) -> list[tuple[int, int]]:
    """The two halves of a range; a single layer stays whole."""
    middle = (first + last) // 2
    return [(first, last)] if last - first < 2 else [(first, middle), (middle, last)]


def quarters(layers: int) -> list[tuple[int, int]]:
    """The four quarters of the layers."""
    edges = [round(layers * i / 4) for i in range(5)]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def grid(layers: int) -> list[Region]:
    """Every region that the tree can reach: all halves and their halves, every module."""
    ranges = broad(layers)
    ranges += [piece for half in ranges for piece in narrow(*half)]
    modules: tuple[Module, ...] = ("mha", "ffn", "up", "down", "qkv")
    return sorted({Region(a, b, m) for a, b in ranges for m in modules})


def kept(runner: Runner, folder: Path) -> Runner:
    """Return a runner that keeps every trial in ``folder`` and runs none twice."""

    def run(regions: Sequence[Region]) -> list[Scores]:
        missing = [r for r in regions if not (folder / f"{r.name}.json").exists()]
        for region, scores in zip(missing, runner(missing) if missing else [], strict=True):
            crew().once(partial(keep, folder, region, scores))
        found = [json.loads((folder / f"{r.name}.json").read_text()) for r in regions]
        return [Scores(**one) for one in found]

    return run


def keep(folder: Path, region: Region, scores: Scores) -> None:
    """Write one trial, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{region.name}.part"
    part.write_text(json.dumps({"speciality": scores.speciality, "versatility": scores.versatility}))
    part.replace(folder / f"{region.name}.json")


def search(layers: int, runner: Runner) -> tuple[Region, dict[Region, Scores]]:
    """Return the region with the highest Uni that the tree finds, and all trials.

    The runner gets all regions of a level at once, and may run them side by side.
    """
    trials: dict[Region, Scores] = {}

    def best_of(regions: Sequence[Region]) -> Region:
        fresh = [r for r in regions if r not in trials]
        trials.update(zip(fresh, runner(fresh), strict=True))
        return max(regions, key=lambda r: (trials[r].uni, -r.first))

    wide = best_of([Region(a, b, m) for m in ("mha", "ffn") for a, b in broad(layers)])
    tight = best_of([wide, *(Region(a, b, wide.module) for a, b in narrow(wide.first, wide.last))])
    single = [Region(tight.first, tight.last, m) for m in SPLIT[tight.module]]
    return best_of([tight, *single]), trials
