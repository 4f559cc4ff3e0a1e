"""What would another policy have earned? Estimates from logged decisions, their propensities and outcomes.

Three estimators, all unbiased (or nearly) when every choice of the target policy had a chance to be made:
inverse propensity scores (Horvitz and Thompson, 1952), their self-normalised form (Swaminathan and Joachims,
'The Self-Normalized Estimator for Counterfactual Learning', 2015), and doubly robust (Dudík, Langford and Li,
'Doubly Robust Policy Evaluation and Learning', 2011). Intervals are those of a mean of influence values, with
Johnson's correction for skewness (1978): importance weights have a long tail. Records of one conversation are
not independent, so influence values are summed by group first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..store.errors import UsageError

Array = NDArray[np.float64]
Method = Literal["ips", "snips", "dr"]
METHODS: tuple[Method, ...] = ("ips", "snips", "dr")
LEVEL = 0.95
_LEAST = 1e-3  # of the mean weight, what is left without the heaviest group


@dataclass(frozen=True)
class Logged:
    """N decisions as they were logged, and what the target policy thinks of them; every array is [N].

    reward: what came of the logged choice. propensity: the chance that the logging policy gave it, above 0.
    target: the chance that the target policy gives the same choice. predicted: a model's reward for it.
    baseline: the model's reward for the target policy, summed over all its choices. The model must not have
    seen these rewards. groups: which rows belong together (a conversation); None: none do.
    """

    reward: Array
    propensity: Array
    target: Array
    predicted: Array
    baseline: Array
    groups: Sequence[object] | None = None

    def __post_init__(self) -> None:
        columns = {name: getattr(self, name) for name in _COLUMNS}
        for name, values in columns.items():
            object.__setattr__(self, name, np.asarray(values, dtype=np.float64))
        _check({name: getattr(self, name) for name in _COLUMNS}, self.groups)

    @property
    def size(self) -> int:
        """How many decisions."""
        return len(self.reward)

    @property
    def weight(self) -> Array:
        """Importance weights, target / propensity."""
        return self.target / self.propensity


_COLUMNS = ("reward", "propensity", "target", "predicted", "baseline")


def _check(columns: dict[str, Array], groups: Sequence[object] | None) -> None:
    size = len(columns["reward"])
    if size < 2:
        raise UsageError(f"{size} decisions cannot be judged; log at least 2 with outcomes")
    for name, values in columns.items():
        if values.shape != (size,) or not np.isfinite(values).all():
            raise UsageError(f"{name} must be {size} finite numbers, one a decision; it is {values.shape}")
    low, high = columns["propensity"].min(), columns["propensity"].max()
    if low <= 0 or high > 1:
        raise UsageError(f"propensities lie in {low:g} to {high:g}; they must be above 0 and at most 1")
    if columns["target"].min() < 0 or columns["target"].max() > 1:
        raise UsageError("the target policy's chances must lie within 0 and 1")
    if groups is not None and len(groups) != size:
        raise UsageError(f"groups has {len(groups)} entries for {size} decisions; give one each")


class Value(NamedTuple):
    """An estimated mean reward with its interval at 95 %.

    `effective` is the effective sample size (Kish, 1965) of the weights: far below `n`, few rows decide all.
    """

    method: str
    value: float
    low: float
    high: float
    n: int
    effective: float


def evaluate(logged: Logged, method: Method = "dr") -> Value:
    """Estimate the target policy's mean reward."""
    value, influence = _estimate(logged, method)
    return _value(method, value, influence, logged)


def gain(logged: Logged, method: Method = "dr") -> Value:
    """Estimate how much more the target policy earns than the logging one did; the interval is a paired
    one.
    """
    value, influence = _estimate(logged, method)
    earned = float(logged.reward.mean())
    return _value(method, value - earned, influence - (logged.reward - earned), logged)


def _estimate(logged: Logged, method: Method) -> tuple[float, Array]:
    """The value and the influence [N] of each row on it (mean 0)."""
    weight, reward = logged.weight, logged.reward
    if method == "snips":
        mean = weight.mean()
        if mean == 0:
            raise UsageError("the target policy never makes a logged choice; nothing can be said of it")
        value = float((weight * reward).mean() / mean)
        # without the row's own group (the jackknife): few heavy rows must not vouch for themselves
        rest = np.maximum(mean - _own(weight, logged.groups) / logged.size, mean * _LEAST)
        return value, weight * (reward - value) / rest
    if method not in METHODS:
        raise UsageError(f"method {method!r} is unknown; it is one of {', '.join(METHODS)}")
    scores = weight * reward
    if method == "dr":
        scores = logged.baseline + weight * (reward - logged.predicted)
    value = float(scores.mean())
    return value, scores - value


def _value(method: str, value: float, influence: Array, logged: Logged) -> Value:
    sums = _by_group(influence, logged.groups)
    count = len(sums)
    low, high = -math.inf, math.inf
    if count > 1:
        units = sums * (count / logged.size)
        low, high = _interval(units)
    weight = logged.weight
    square = float((weight**2).sum())
    effective = float(weight.sum()) ** 2 / square if square else 0.0
    return Value(method, value, value + low, value + high, logged.size, effective)


def _interval(units: Array) -> tuple[float, float]:
    """Edges of the interval of a mean of `units`, whose own mean is 0 (Johnson 1978)."""
    count = len(units)
    variance = float(units.var(ddof=1))
    if variance == 0:
        return 0.0, 0.0
    # a long tail makes the variance itself uncertain: fewer degrees of freedom (Satterthwaite, 1946)
    kurtosis = float((units**4).mean()) / float((units**2).mean()) ** 2
    freedom = min(count - 1.0, max(3.0, 2 * count / max(kurtosis - 1, 1e-9)))
    t = _t_quantile(0.5 + LEVEL / 2, freedom)
    skew = float((units**3).mean()) / (6 * variance * count) * (1 + 2 * t * t)
    half = t * math.sqrt(variance / count)
    return skew - half, skew + half


def _t_quantile(p: float, freedom: float) -> float:
    """Student's t quantile (Abramowitz and Stegun 26.7.5): 1 % off at 3 degrees of freedom, exact for
    many.
    """
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))


def _by_group(values: Array, groups: Sequence[object] | None) -> Array:
    """Sums by group, [G]."""
    if groups is None:
        return values
    return np.asarray(np.bincount(_index(groups), weights=values), dtype=np.float64)


def _own(values: Array, groups: Sequence[object] | None) -> Array:
    """For each row, the sum over its group, [N]."""
    if groups is None:
        return values
    return _by_group(values, groups)[_index(groups)]


def _index(groups: Sequence[object]) -> NDArray[np.int64]:
    numbers: dict[object, int] = {}
    return np.asarray([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def unsupported(target: Sequence[Sequence[float]] | NDArray[Any], logging: NDArray[Any]) -> float:
    """The share of the target policy's choices that the logging policy could never make: of them, a log says
    nothing. Both are chances by choice, [N, A].
    """
    wanted, given = np.asarray(target, dtype=np.float64), np.asarray(logging, dtype=np.float64)
    return float((wanted * (given == 0)).sum(axis=1).mean())
