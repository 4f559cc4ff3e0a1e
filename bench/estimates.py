"""Values with 95 % bootstrap intervals.

A statistic takes resampling weights [R, N] (how often each of N rows was drawn in each of R resamples) and
returns R values, so two thousand resamples cost a few matrix products. Comparisons of two methods on the same
rows resample the rows, not the methods: the interval is a paired one.
Efron and Tibshirani, 'An Introduction to the Bootstrap' (1993), percentile interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Statistic = Callable[[Array], Array]
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value on `n` rows with the interval [low, high]."""

    value: float
    low: float
    high: float
    n: int


@lru_cache(maxsize=16)
def draws(n: int, seed: int, resamples: int = RESAMPLES) -> Array:
    """Return how often each of `n` rows is drawn in each resample, [resamples, n]."""
    generator = np.random.default_rng([seed, n])
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def estimate(statistic: Statistic, n: int, seed: int) -> Estimate:
    """Return a statistic on all rows with its bootstrap interval.

    Resamples on which it is not defined (a class without rows) are left out.

    Raises:
        ValueError: there are no rows.
    """
    if n < 1:
        raise ValueError("there are no rows to estimate from")
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(np.ones((1, n)))[0])
        samples = statistic(draws(n, seed))
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        return Estimate(value, value, value, n)
    edge = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(samples, [edge, 100 - edge])
    return Estimate(value, float(low), float(high), n)


def column(values: Sequence[Any] | Array) -> Array:
    """Return values (numbers or truths) as float64 [N]."""
    return np.asarray(values, dtype=np.float64)


def mean(values: Sequence[Any] | Array, seed: int) -> Estimate:
    """The mean of values [N]."""
    x = column(values)
    return estimate(lambda w: w @ x / w.sum(1), len(x), seed)


def difference(ours: Sequence[Any] | Array, theirs: Sequence[Any] | Array, seed: int) -> Estimate:
    """The mean of ours - theirs, row by row (paired)."""
    return mean(_paired(ours, theirs, np.subtract), seed)


def ratio(ours: Sequence[Any] | Array, theirs: Sequence[Any] | Array, seed: int) -> Estimate:
    """mean(ours) / mean(theirs) on the same rows (paired)."""
    a, b = column(ours), column(theirs)
    _paired(a, b, np.subtract)
    return estimate(lambda w: (w @ a) / (w @ b), len(a), seed)


def _paired(
    a: Sequence[Any] | Array, b: Sequence[Any] | Array, how: Callable[[Array, Array], Array]
) -> Array:
    x, y = column(a), column(b)
    if x.shape != y.shape:
        raise ValueError(f"{len(x)} and {len(y)} rows cannot be paired; measure both on the same rows")
    return how(x, y)


def median(values: Sequence[Any] | Array, seed: int) -> Estimate:
    """The median of values [N] (the lower one of two middles)."""
    x = column(values)
    return estimate(lambda w: _middle(w, x), len(x), seed)


def median_ratio(ours: Sequence[float], theirs: Sequence[float], seed: int) -> Estimate:
    """median(ours) / median(theirs), resampling pairs that were taken one after the other."""
    a, b = column(ours), column(theirs)
    _paired(a, b, np.subtract)
    return estimate(lambda w: _middle(w, a) / _middle(w, b), len(a), seed)


def _middle(w: Array, x: Array) -> Array:
    """Weighted lower medians [R] of x [N]."""
    order = np.argsort(x, kind="stable")
    below = np.cumsum(w[:, order], axis=1)
    middles: Array = x[order][np.argmax(below >= below[:, -1:] / 2, axis=1)]
    return middles


def auroc(score: Sequence[float] | Array, positive: Sequence[Any] | Array, seed: int) -> Estimate:
    """The probability that a positive row scores above a negative one, ties counting half."""
    s, y = column(score), column(positive)
    order = np.argsort(s, kind="stable")
    # rows that share a score share a group; a negative of the same group counts half
    _, group = np.unique(s[order], return_inverse=True)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    up = y[order]

    def statistic(w: Array) -> Array:
        drawn = w[:, order]
        negatives = np.add.reduceat(drawn * (1 - up), starts, axis=1)
        positives = np.add.reduceat(drawn * up, starts, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        ordered: Array = (positives * below).sum(1) / (positives.sum(1) * negatives.sum(1))
        return ordered

    return estimate(statistic, len(s), seed)


def ece(p: Sequence[float] | Array, right: Sequence[Any] | Array, seed: int, bins: int = 15) -> Estimate:
    """Expected calibration error over equal-width bins (Guo et al. 2017, eq. 3).

    Resampling adds noise to every bin, so the interval lies a little above an unbiased one.
    """
    x, y = column(p), column(right)
    member = np.zeros((len(x), bins))
    member[np.arange(len(x)), np.clip(np.ceil(x * bins).astype(int) - 1, 0, bins - 1)] = 1.0
    gaps = member * (x - y)[:, None]
    return estimate(lambda w: np.abs(w @ gaps).sum(1) / w.sum(1), len(x), seed)


def share_among(hits: Sequence[Any] | Array, among: Sequence[Any] | Array, seed: int) -> Estimate:
    """The share of hits among the rows where `among` is true, as one resamples all rows."""
    chosen = column(among)
    found = estimate(lambda w: (w @ (column(hits) * chosen)) / (w @ chosen), len(chosen), seed)
    return Estimate(found.value, found.low, found.high, int(chosen.sum()))
