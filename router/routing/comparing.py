"""All heads and the baselines on one table: what each says of rows it did not see, and what that is worth.

`in` columns leave out rows at random (duplicates together), `out` columns leave out whole groups.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import curves as worth
from .curves import Array
from .fitting import Options, Say, calibration_errors, cross_fitted, held_out
from .recipes import BASELINES, usable
from .seen import Seen, parts_of, quality_of, targets_of
from .stack import folds_of
from .table import Table
from .trust import fit_curves

STACK = "stack"
SHUFFLED = "linear, labels shuffled"
RESAMPLES = 500
_COMPLETE = 30


@dataclass(frozen=True, eq=False)
class Contender:
    """One way of routing on one table. quality [N,M]: predicted, raw; p [N,M]: calibrated; seconds: of
    fitting.
    """

    name: str
    quality: Tensor
    p: Tensor
    seconds: float = 0.0
    baseline: bool = False


@dataclass(frozen=True)
class Figures:
    """What a contender is worth. apgr, its interval and cpt: two models only, else NaN. interval of aiq and
    of accuracy: 95 %, over prompts. auroc and ece: by model.
    """

    name: str
    apgr: float
    apgr_interval: tuple[float, float]
    cpt: tuple[float, float, float]
    aiq: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    of_oracle: float
    auroc: tuple[float, ...]
    ece: tuple[float, ...]
    seconds: float
    baseline: bool


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores contenders on the same rows and resamples: those of a table with a label of every model.

    weak, strong: the cheaper and the dearer of two models (without prices: the worse and the better).
    """

    quality: Tensor
    prices: Tensor
    models: tuple[str, ...]
    rows: Tensor
    draws: Array

    @classmethod
    def of(
        cls, table: Table, prices: Mapping[str, float], seed: int = 0, resamples: int = RESAMPLES
    ) -> Judge:
        """Judge on the complete rows of a table."""
        rows = torch.nonzero(table.labelled.all(1))[:, 0]
        given = torch.tensor([prices.get(name, torch.nan) for name in table.models])
        mean = torch.nanmean(table.quality, 0)
        price = torch.where(given.isnan(), 1.0 + mean.argsort().argsort().float(), given)
        return cls(table.quality, price, table.models, rows, worth.draws(max(1, len(rows)), resamples, seed))

    @property
    def truth(self) -> Array:
        """Labels of the rows that count [n,M]."""
        found: Array = self.quality[self.rows].double().numpy()
        return found

    @property
    def order(self) -> tuple[int, int]:
        """Indexes of the cheaper and the dearer of two models."""
        first, second = self.prices.argsort(stable=True).tolist()
        return first, second

    @property
    def paired(self) -> bool:
        """Whether APGR means something: two models, complete rows enough, the dearer one clearly better."""
        if len(self.models) != 2 or len(self.rows) < _COMPLETE:
            return False
        weak, strong = self.order
        gain = self.truth[:, strong] - self.truth[:, weak]
        return bool(gain.mean() > 2 * gain.std() / len(gain) ** 0.5)

    def score(self, one: Contender) -> Array:
        """Gain of the dearer of two models, as predicted [n]."""
        weak, strong = self.order
        found: Array = (one.quality[:, strong] - one.quality[:, weak])[self.rows].double().numpy()
        return found

    def apgr(self, one: Contender) -> Array:
        """APGR on every resample [R]."""
        weak, strong = self.order
        return worth.apgr_resampled(self.score(one), self.truth[:, weak], self.truth[:, strong], self.draws)

    def accuracy(self, one: Contender) -> Array:
        """Quality of who is chosen at lam 0, by row [n]."""
        return worth.accuracy(one.p[self.rows].numpy(), self.truth)

    def figures(self, one: Contender) -> Figures:
        """Score a contender."""
        truth, chosen = self.truth, self.accuracy(one)
        pair, between = worth.Pair(*(float("nan"),) * 4), (float("nan"), float("nan"))
        if self.paired:
            weak, strong = self.order
            pair = worth.pair(self.score(one), truth[:, weak], truth[:, strong])
            between = worth.interval(self.apgr(one))
        oracle = float(truth.max(1).mean()) if len(truth) else float("nan")
        resampled = self.draws @ chosen / self.draws.sum(1) if len(truth) else np.zeros(0)
        areas = [
            worth.auroc(p[known].numpy(), y[known].numpy())
            for p, y in zip(one.p.T, self.quality.T, strict=True)
            for known in [~y.isnan()]
        ]
        swept = worth.sweep(one.p[self.rows].numpy(), truth, self.prices.numpy()) if len(truth) else None
        mean = float(chosen.mean()) if len(truth) else float("nan")
        return Figures(
            one.name,
            pair.apgr,
            between,
            (pair.cpt20, pair.cpt50, pair.cpt80),
            swept.aiq if swept else float("nan"),
            mean,
            worth.interval(resampled),
            mean / oracle if oracle else float("nan"),
            tuple(areas),
            tuple(calibration_errors(one.p, self.quality)),
            one.seconds,
            one.baseline,
        )

    def difference(self, one: Contender, other: Contender) -> tuple[float, float, float]:
        """(APGR, or accuracy for more than two models) of one - other, with its paired interval."""
        measure = self.apgr if self.paired else self._means
        return self._value(one) - self._value(other), *worth.interval(measure(one) - measure(other))

    def _value(self, one: Contender) -> float:
        if not self.paired:
            return float(self.accuracy(one).mean())
        weak, strong = self.order
        return worth.pair(self.score(one), self.truth[:, weak], self.truth[:, strong]).apgr

    def _means(self, one: Contender) -> Array:
        found: Array = self.draws @ self.accuracy(one) / self.draws.sum(1)
        return found


def contenders(
    table: Table,
    seen: Seen,
    options: Options | None = None,
    *,
    by_group: bool = False,
    ready: Mapping[str, Tensor] | None = None,
    say: Say | None = None,
) -> list[Contender]:
    """Every usable head, the baselines, the stack and a control, each judged on rows it did not see.

    by_group leaves out whole groups, five lots of them. ready: quality [N,M] that heads of a fit with the
    same options gave for these rows already. Raises UsageError as `fit` does.
    """
    options, tell = options or Options(), say or (lambda line: None)
    table.require_learnable()
    keys: Sequence[object] = table.groups if by_group and table.groups else table.keys
    fold = folds_of(keys, options.folds or 5, options.seed)
    targets = targets_of(table.quality)
    names = list(dict.fromkeys([*BASELINES, *options.heads]))
    parts, found = {}, []
    for name in names:
        if usable(name, seen, table.quality):
            continue
        begun = time.perf_counter()
        if ready is not None and name in ready:
            parts[name] = parts_of(ready[name], targets.base)
        else:
            parts[name] = held_out(name, seen, table.quality, fold, targets.base)
        quality = quality_of(parts[name], targets.base)
        p = calibrated(quality, table.quality, fold)
        found.append(Contender(name, quality, p, time.perf_counter() - begun, name in BASELINES))
        tell(f"{name}: {found[-1].seconds:.1f} s")
    together = torch.stack([parts[name] for name in options.heads if name in parts])
    quality = cross_fitted(together, targets, fold, options.bend)
    found.append(Contender(STACK, quality, calibrated(quality, table.quality, fold)))
    return [*found, *_controls(table, seen, fold, options.seed)]


def _controls(table: Table, seen: Seen, fold: Tensor, seed: int) -> list[Contender]:
    """A coin, and a linear probe on shuffled labels: what nothing looks like."""
    generator = torch.Generator().manual_seed(seed)
    base = targets_of(table.quality).base
    noise = torch.rand(table.quality.shape, generator=generator)
    coin = Contender("random", noise, calibrated(noise, table.quality, fold), baseline=True)
    if seen.states is None:
        return [coin]
    dealt = table.quality[torch.randperm(len(table), generator=generator)]
    quality = quality_of(held_out("linear", seen, dealt, fold, base), base)
    return [coin, Contender(SHUFFLED, quality, calibrated(quality, table.quality, fold), baseline=True)]


def calibrated(predicted: Tensor, quality: Tensor, fold: Tensor) -> Tensor:
    """P(correct) [N,M]: each fold's curves come from the other folds."""
    found = torch.zeros_like(predicted)
    for number in sorted(set(fold.tolist())):
        inside, outside = fold != number, fold == number
        found[outside] = fit_curves(predicted[inside], quality[inside])(predicted[outside])
    return found


def verdict(judge: Judge, found: Sequence[Contender]) -> str:
    """One plain sentence: does the stack beat the best simple baseline, or does that one win?"""
    named = {one.name: one for one in found}
    simple = [one for one in found if one.baseline and one.name not in ("random", SHUFFLED)]
    if STACK not in named or not simple:
        return "There is nothing to compare with."
    measure: Callable[[Figures], float] = (lambda f: f.apgr) if judge.paired else (lambda f: f.accuracy)
    best = max(simple, key=lambda one: measure(judge.figures(one)))
    value, low, high = judge.difference(named[STACK], best)
    what = "APGR" if judge.paired else "accuracy"
    figures = f"{what} {value:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    if low > 0:
        return f"The stack beats the best simple baseline, {best.name!r} ({figures})."
    if value < 0:
        return (
            f"A simple baseline wins: {best.name!r} does at least as well as the stack ({figures}). Use it."
        )
    return f"The stack is not clearly better than the simple baseline {best.name!r} ({figures})."
