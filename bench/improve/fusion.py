"""Neuron-Fusion on a decoder that learnt a new task and forgot much of ten: what merging gets back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ...specialists.improve.finetune_full import Sft, tune
from ...specialists.improve.merge import Merging, merge
from ...specialists.improve.neurons import Heads
from .. import estimates
from ..page import Goal, Section, cell, signed
from . import toys
from .cofitune import NEW, OLD, WHOLE, Size, World, world
from .lab import Lab

TUNING = 200  # steps of full fine-tuning on the new task
NORMS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15)
FUSIONS = product((0.2, 0.4), (0.0, 0.3, 0.7), ("relative", "absolute"))
GRID: Mapping[str, tuple[Merging, ...]] = {
    "Neuron-Fusion": tuple(Merging("fusion", top=p, weak=w, measure=m) for p, w, m in FUSIONS),  # type: ignore[arg-type]
    "task arithmetic": (Merging("task"),),
    "TIES": tuple(Merging("ties", top=p) for p in (0.2, 0.4, 0.7)),
    "DARE": tuple(Merging("dare", drop=p) for p in (0.2, 0.5, 0.8)),
    "DELLA": tuple(Merging("della", drop=p) for p in (0.2, 0.5, 0.8)),
    "Breadcrumbs": tuple(Merging("breadcrumbs", low=p) for p in (0.2, 0.5, 0.85)),
}
OURS, RIVALS = next(iter(GRID)), tuple(GRID)[1:]
CONTROLS = {"random neurons": "random", "inverted rule": "inverted", "single weights": "elements"}


def hypervolume(points: Sequence[Sequence[float]]) -> float:
    """The area [0, 1] below the staircase of points (old, new) that no other beats in both."""
    area, reached = 0.0, 0.0
    for old, new in sorted(map(tuple, points), reverse=True):
        if new > reached:
            area += old * (new - reached)
            reached = new
    return area


def trial(lab: Lab, seed: int) -> dict[str, Any]:
    """Train base and tuned model, merge on a grid, choose on one split and measure on another."""
    size = Size(20, 4, 100, 10, 4) if lab.quick else Size()
    w = world(lab, seed, size)
    base = {n: t.clone() for n, t in w.start.items()}
    rows = toys.rows_of(w.codec, w.lessons)
    plan = Sft(rows=32, steps=20 if lab.quick else TUNING, rate=WHOLE[0], seed=seed)
    tune(w.model, rows, len(w.codec.invocation), plan, lab.folder(f"fusion/{seed}/tuned"))
    tuned = toys.state_of(w.model)
    ends = {"base": _point(w, base, "test"), "tuned": _point(w, tuned, "test")}
    chosen = {}
    for name, whole in GRID.items():
        grid = whole[:1] if lab.quick else whole
        scored = [
            lab.keep(f"fusion/{seed}/fit-{_key(name)}-{i}", partial(_front, w, base, tuned, how, seed, "fit"))
            for i, how in enumerate(grid)
        ]
        chosen[name] = grid[max(range(len(grid)), key=lambda i: hypervolume(scored[i]))]
    rules = {n: replace(chosen[OURS], rule=rule) for n, rule in CONTROLS.items()}  # type: ignore[arg-type]
    fronts = {
        n: lab.keep(f"fusion/{seed}/test-{_key(n)}", partial(_front, w, base, tuned, how, seed, "test"))
        for n, how in {**chosen, **rules}.items()
    }
    return {
        "ends": ends,
        "areas": {n: hypervolume(front) for n, front in fronts.items()},
        "best": {n: max(front, key=sum) for n, front in fronts.items()},
        "chosen": {n: asdict(how) for n, how in chosen.items()},
        "exact": exact(base, tuned),
    }


def _key(name: str) -> str:
    return name.replace(" ", "-")


def _front(
    w: World, base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], how: Merging, seed: int, split: str
) -> list[tuple[float, float]]:
    """(old, new) accuracies at every length of the change."""
    heads = Heads.of(w.model.config.to_dict())
    norms = NORMS if w.size.steps > 10 else NORMS[2:3]
    merged = (merge(base, [tuned], replace(how, norm=norm, seed=seed), heads) for norm in norms)
    return [_point(w, one, split) for one in merged]


@torch.no_grad()
def _point(w: World, state: Mapping[str, Tensor], split: str) -> tuple[float, float]:
    toys.put_back(w.model, state)
    found = {task: toys.accuracy(values) for task, values in w.judge(split).items()}
    old = [value for task, value in found.items() if task != NEW]
    return sum(old) / len(old), found[NEW]


def exact(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> bool:
    """Whether the ends of Neuron-Fusion's rule are the tuned model and the base, bit for bit."""
    heads = Heads(4, 4)
    whole = merge(base, [tuned], Merging("fusion", weak=1.0, strong=1.0), heads)
    none = merge(base, [tuned], Merging("fusion", weak=0.0, strong=0.0), heads)
    return all(torch.equal(whole[n], tuned[n]) and torch.equal(none[n], base[n]) for n in base)


def section(lab: Lab) -> Section:
    """Measure every seed and compare with the issue's targets."""
    found = [lab.keep(f"fusion/{seed}", partial(trial, lab, seed)) for seed in lab.seeds]
    seed, names = lab.seeds[0], list(found[0]["areas"])
    areas = {name: [one["areas"][name] for one in found] for name in names}
    ends = {n: [[one["ends"][n][i] for one in found] for i in (0, 1)] for n in ("base", "tuned")}
    rows = [(name, "–", *(cell(estimates.mean(values, seed), "%") for values in ends[name])) for name in ends]
    for name in names:
        best = [[one["best"][name][i] for one in found] for i in (0, 1)]
        cells = (cell(estimates.mean(values, seed), "%") for values in best)
        rows.append((name, cell(estimates.mean(areas[name], seed), ""), *cells))
    learnt = ", ".join(f"{value:.0%}" for value in ends["tuned"][1])
    drop = [a - b for a, b in zip(ends["base"][0], ends["tuned"][0], strict=True)]
    return Section(
        "Neuron-Fusion: keep what the new task moved most",
        f"A decoder trained on {len(OLD)} tasks learns another by full fine-tuning in {TUNING} steps; "
        f"{len(found)} seeds. Every method merges the two at the same {len(NORMS)} lengths of the change; "
        "its own settings are chosen on one split, and the area below its front of (old tasks, new task) is "
        "measured on another. The best point has the largest sum. Fine-tuning cost the old tasks "
        f"{signed(estimates.mean(drop, seed))} points. The rule is a reconstruction: the paper's measure and "
        "thresholds are not published.",
        ("method", "area", "old tasks, best point", "new task, best point"),
        tuple(rows),
        _goals(areas, found, drop, seed),
        notes=(
            f"The tuned model gets {learnt} of the new task right, by seed: where it learnt little in its "
            "steps, there is little to merge, and the areas tell nothing apart.",
        ),
    )


def _goals(
    areas: Mapping[str, Sequence[float]], found: Sequence[Mapping[str, Any]], drop: Sequence[float], seed: int
) -> tuple[Goal, ...]:
    best = [max(areas[name][i] for name in RIVALS) for i in range(len(found))]
    wins = [float(ours >= theirs) for ours, theirs in zip(areas[OURS], best, strict=True)]
    plain = estimates.mean(areas["task arithmetic"], seed)
    controls = tuple(
        Goal(f"area above that of {name}", "clearly above", 0.0, "",
             estimates.difference(areas[OURS], areas[name], seed))
        for name in ("random neurons", "inverted rule")
    )  # fmt: skip
    return (
        Goal("seeds in which its area is at least that of the best rival", "at least", 0.6, "%",
             estimates.mean(wins, seed)),
        *controls,
        Goal("seeds in which its ends are the tuned model and the base, bit for bit", "at least", 1.0, "%",
             estimates.mean([float(one["exact"]) for one in found], seed)),
        Goal("old tasks lost by fine-tuning: what there is to get back", "at least", 0.1, "%",
             estimates.mean(drop, seed)),
        Goal("power: area of task arithmetic", "at least", 0.2, "", plain),
        Goal("power: the same", "at most", 0.9, "", plain),
    )  # fmt: skip
