"""What a router is worth: cost against quality, and the figures the field quotes.

With two models: APGR, the area under quality against the share of calls to the better model, 0 = always the
weaker, 1 = always the better, at the deciles of the score (Ong et al., 'RouteLLM', 2024), and CPT(p), the
share of calls that closes p of the gap. With any number: AIQ, the area under the convex hull of quality
against cost (Hu et al., 'RouterBench', 2024), both ends of cost counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_PARTS = 10
_LAMS = 200


@dataclass(frozen=True)
class Pair:
    """APGR and CPT of one score on two models."""

    apgr: float
    cpt20: float
    cpt50: float
    cpt80: float


def decile_curve(score: Any, weak: Any, strong: Any, seed: int = 0) -> tuple[Array, Array]:
    """Share of calls to `strong` [11] and mean quality [11] at the deciles of `score` [N].

    Ties are broken at random, as the field's own evaluation does. weak, strong: quality [N].
    """
    s, w, b = (np.asarray(x, dtype=np.float64) for x in (score, weak, strong))
    spread = float(np.ptp(s)) or 1.0
    s = s + np.random.default_rng(seed).random(s.size) * 1e-9 * spread
    points = []
    edges = np.quantile(s, np.linspace(0, 1, _PARTS + 1))
    for number, edge in enumerate(edges):
        up = s >= edge if number < _PARTS else s > edge
        points.append((up.mean(), np.where(up, b, w).mean()))
    x, y = zip(*sorted(points), strict=True)
    return np.array(x), np.array(y)


def pair(score: Any, weak: Any, strong: Any, seed: int = 0) -> Pair:
    """APGR and CPT of a score (higher: send it to `strong`). NaN where both models are equally good."""
    x, y = decile_curve(score, weak, strong, seed)
    low, high = float(np.mean(weak)), float(np.mean(strong))
    gap = high - low
    if gap == 0:
        return Pair(*(float("nan"),) * 4)
    span = x[-1] - x[0]
    area = (float(np.trapezoid(y, x)) - low * span) / (gap * span)
    cpt = [float(np.interp(low + p * gap, y, x)) for p in (0.2, 0.5, 0.8)]
    return Pair(area, *cpt)


def apgr_resampled(score: Any, weak: Any, strong: Any, draws: Array) -> Array:
    """APGR on resamples: draws [R,N] says how often each row was drawn; [R]. Deciles are those of the
    resample.
    """
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    w, b = (np.asarray(x, dtype=np.float64)[order] for x in (weak, strong))
    counts = draws[:, order]
    size = counts.cumsum(1)
    gained = (counts * (b - w)).cumsum(1)
    total = size[:, -1:]
    cuts = np.linspace(0, 1, _PARTS + 1)
    quality = np.zeros((counts.shape[0], _PARTS + 1))
    for row in range(counts.shape[0]):
        quality[row] = np.interp(cuts * total[row, 0], np.r_[0, size[row]], np.r_[0, gained[row]])
    area = np.trapezoid(quality, cuts, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample in which both models are equally good
        found: Array = area / gained[:, -1]
    return found


@dataclass(frozen=True)
class Sweep:
    """Mean cost and quality at rising lam; aiq: area under the hull, in quality, over the models' cost
    range.
    """

    lam: Array
    cost: Array
    quality: Array
    aiq: float


def sweep(p: Any, quality: Any, cost: Any) -> Sweep:
    """Decide by p - lam cost at many lam, and score with quality [N,M]; cost [M]. NaN labels count as wrong
    choices nobody can check, so rows must be complete.
    """
    chance, truth, price = (np.asarray(x, dtype=np.float64) for x in (p, quality, cost))
    spread = float(np.ptp(price))
    lams = np.r_[0.0, np.geomspace(1e-3, 1e2, _LAMS) / spread] if spread else np.zeros(1)
    rows = np.arange(len(chance))
    points = []
    for lam in lams:
        who = np.argmax(chance - lam * price, axis=1)
        points.append((price[who].mean(), truth[rows, who].mean()))
    costs, qualities = (np.array(x) for x in zip(*points, strict=True))
    return Sweep(lams, costs, qualities, area_under_hull(costs, qualities, price))


def area_under_hull(cost: Array, quality: Array, price: Array) -> float:
    """AIQ: the mean, over costs from the cheapest to the dearest model, of the upper hull's quality."""
    low, high = float(price.min()), float(price.max())
    if high == low:
        return float(quality.max())
    points = sorted(zip(cost.tolist(), quality.tolist(), strict=True))
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _above(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    x, y = (np.array(v) for v in zip(*hull, strict=True))
    y = np.maximum.accumulate(y)  # paying more is never worse: nobody has to
    grid = np.linspace(low, high, 1001)
    return float(np.interp(grid, x, y).mean())


def _above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def accuracy(p: Any, quality: Any) -> Array:
    """Quality of the model of highest P(correct), a prompt each [N]."""
    chance, truth = (np.asarray(x, dtype=np.float64) for x in (p, quality))
    found: Array = truth[np.arange(len(chance)), np.argmax(chance, axis=1)]
    return found


def auroc(score: Any, label: Any) -> float:
    """How often a right answer scores above a wrong one, ties half; soft labels count as parts of both.

    NaN when all labels are alike.
    """
    s, y = np.asarray(score, dtype=np.float64), np.asarray(label, dtype=np.float64)
    order = np.argsort(s, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(s[order]) > 0])
    up = np.add.reduceat(y[order], starts)
    down = np.add.reduceat(1 - y[order], starts)
    pairs = up.sum() * down.sum()
    if not pairs:
        return float("nan")
    return float((up * (np.cumsum(down) - down / 2)).sum() / pairs)


def draws(n: int, resamples: int, seed: int) -> Array:
    """How often each of n rows is drawn in each resample [R,N]."""
    generator = np.random.default_rng([seed, n])
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def interval(samples: Any) -> tuple[float, float]:
    """The 95 % percentile interval of samples, those that are no number left out."""
    kept = np.asarray(samples, dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    if not kept.size:
        return float("nan"), float("nan")
    low, high = np.percentile(kept, [2.5, 97.5])
    return float(low), float(high)
