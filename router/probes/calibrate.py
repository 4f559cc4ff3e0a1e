"""Calibration: from a probe's logit to a probability that comes true that often; and how to measure it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ...store.errors import UsageError
from ..checks import Numbers, both_classes, labels, numbers

Method = Literal["platt", "isotonic", "capped", "auto"]
_TINY = 1e-12
_PRIOR = 0.1  # rows that the prior of a capped calibration counts as
# Isotonic regression has as many degrees of freedom as the data allow; below this it only remembers them.
_ISOTONIC_MINIMUM = 400


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


@dataclass(frozen=True)
class Platt:
    """p = sigmoid(a * score + b). Platt, 'Probabilistic Outputs for Support Vector Machines' (1999)."""

    a: float = 1.0
    b: float = 0.0

    @classmethod
    def fit(cls, score: Numbers, y: Numbers) -> Platt:
        """Fit on scores [N] and labels 0/1 [N] by Newton steps on Platt's smoothed targets.

        The targets are (n+ + 1)/(n+ + 2) and 1/(n- + 2), so separable data stay finite. Raises UsageError
        when only one class is present, or lengths or values are wrong.
        """
        s = numbers("score", score)
        t = labels("y", y, s.numel())
        both_classes("y", t)
        positives = t.sum()
        targets = torch.where(t == 1, (positives + 1) / (positives + 2), 1 / (t.numel() - positives + 2))
        centre, spread = s.mean(), s.std().clamp_min(1e-9) if s.numel() > 1 else torch.ones(())
        a, b = _newton((s - centre) / spread, targets)
        return cls(float(a / spread), float(b - a * centre / spread))

    def one(self, score: float) -> float:
        """Return the probability of one score."""
        return _sigmoid(self.a * score + self.b)

    def __call__(self, score: Numbers) -> Tensor:
        """Return probabilities [N], float64."""
        return torch.sigmoid(self.a * numbers("score", score) + self.b)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `calibration_from_json`."""
        return {"kind": "platt", "a": self.a, "b": self.b}


def _newton(z: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise the cross-entropy of sigmoid(a z + b) against targets [N]: damped Newton, two unknowns."""
    design = torch.stack([z, torch.ones_like(z)], dim=1)
    theta = torch.zeros(2, dtype=z.dtype)
    loss = _cross_entropy(design @ theta, targets)
    for _ in range(100):
        p = torch.sigmoid(design @ theta)
        gradient = design.T @ (p - targets)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + 1e-9 * torch.eye(2, dtype=z.dtype)
        step = torch.linalg.solve(hessian, gradient)
        for halving in range(30):
            candidate = theta - step * 0.5**halving
            new_loss = _cross_entropy(design @ candidate, targets)
            if new_loss <= loss:
                break
        done = abs(float(loss - new_loss)) < 1e-12 * (1 + abs(float(loss)))
        theta, loss = candidate, new_loss
        if done:
            break
    return theta[0], theta[1]


def _cross_entropy(logit: Tensor, target: Tensor) -> Tensor:
    return (torch.nn.functional.softplus(logit) - target * logit).sum()


@dataclass(frozen=True)
class Isotonic:
    """A rising piecewise-linear map through knots (x, y), constant beyond its ends.

    Zadrozny and Elkan, 'Transforming classifier scores into accurate multiclass probability estimates'
    (2002). Every level is drawn one pseudo-count towards the base rate, so no level is exactly 0 or 1.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a <= b for a, b in pairwise(self.x)) and all(a <= b for a, b in pairwise(self.y))
        if not self.x or len(self.x) != len(self.y) or not rising or self.y[0] < 0 or self.y[-1] > 1:
            raise UsageError(
                f"isotonic calibration with {len(self.x)} scores and {len(self.y)} levels: both must be "
                "equally long, rising, and the levels within 0 and 1; fit it again"
            )

    @classmethod
    def fit(cls, score: Numbers, y: Numbers) -> Isotonic:
        """Fit on scores [N] and labels 0/1 [N] by pool-adjacent-violators. Raises as `Platt.fit`."""
        s = numbers("score", score)
        t = labels("y", y, s.numel())
        both_classes("y", t)
        base = float(t.mean())
        pooled = _pool(_tied(s, t))
        smooth = _pool(
            [_Block(b.low, b.high, b.weight, (b.mean * b.weight + base) / (b.weight + 1)) for b in pooled]
        )
        knots = [(edge, b.mean) for b in smooth for edge in dict.fromkeys((b.low, b.high))]
        return cls(tuple(x for x, _ in knots), tuple(level for _, level in knots))

    def one(self, score: float) -> float:
        """Return the probability of one score."""
        right = bisect_right(self.x, score)
        if right == 0 or right == len(self.x):
            return self.y[0] if right == 0 else self.y[-1]
        low, high = self.x[right - 1], self.x[right]
        return self.y[right - 1] + (self.y[right] - self.y[right - 1]) * (score - low) / (high - low)

    def __call__(self, score: Numbers) -> Tensor:
        """Return probabilities [N], float64."""
        values = numbers("score", score)
        return torch.tensor([self.one(value) for value in values.tolist()], dtype=torch.float64)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `calibration_from_json`."""
        return {"kind": "isotonic", "x": list(self.x), "y": list(self.y)}


class _Block(NamedTuple):
    """Scores from `low` to `high` that share one level."""

    low: float
    high: float
    weight: float
    mean: float


def _tied(score: Tensor, y: Tensor) -> list[_Block]:
    """One block per distinct score: equal scores must get one probability."""
    values, inverse = torch.unique(score, return_inverse=True)
    count = torch.zeros_like(values).index_add_(0, inverse, torch.ones_like(y))
    total = torch.zeros_like(values).index_add_(0, inverse, y)
    return [
        _Block(v, v, n, s / n)
        for v, n, s in zip(values.tolist(), count.tolist(), total.tolist(), strict=True)
    ]


def _pool(blocks: list[_Block]) -> list[_Block]:
    """Merge neighbours until the means rise (pool adjacent violators)."""
    done: list[_Block] = []
    for block in blocks:
        while done and done[-1].mean >= block.mean:
            last = done.pop()
            weight = last.weight + block.weight
            mean = (last.mean * last.weight + block.mean * block.weight) / weight
            block = _Block(last.low, block.high, weight, mean)
        done.append(block)
    return done


@dataclass(frozen=True)
class Capped:
    """p = top * sigmoid(a * score + b): however sure the score, no more than `top` comes true.

    For a score that says whose prompt it is, of a specialist who is right on a share of its own prompts:
    Platt scaling with the upper asymptote of a logistic curve of four parameters.
    """

    a: float
    b: float
    top: float

    def __post_init__(self) -> None:
        if not 0 < self.top <= 1:
            raise UsageError(f"a capped calibration has top {self.top}; it lies above 0 and at most at 1")

    @classmethod
    def fit(cls, score: Numbers, y: Numbers) -> Capped:
        """Fit on scores [N] and labels 0/1 [N] by log-loss. Raises as `Platt.fit`."""
        s = numbers("score", score)
        t = labels("y", y, s.numel())
        both_classes("y", t)
        centre, spread = s.mean(), s.std().clamp_min(1e-9) if s.numel() > 1 else torch.ones(())
        theta = _capped((s - centre) / spread, t)
        a = float(theta[0] / spread)
        return cls(a, float(theta[1]) - a * float(centre), float(torch.sigmoid(theta[2])))

    def one(self, score: float) -> float:
        """Return the probability of one score."""
        return self.top * _sigmoid(self.a * score + self.b)

    def __call__(self, score: Numbers) -> Tensor:
        """Return probabilities [N], float64."""
        return self.top * torch.sigmoid(self.a * numbers("score", score) + self.b)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `calibration_from_json`."""
        return {"kind": "capped", "a": self.a, "b": self.b, "top": self.top}


@torch.enable_grad()
def _capped(z: Tensor, target: Tensor) -> Tensor:
    """(a, b, logit of top) for standardised scores z [N]; a weak prior keeps separable data finite."""
    theta = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    start = theta.detach().clone()
    solver = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        solver.zero_grad()
        p = (torch.sigmoid(theta[2]) * torch.sigmoid(theta[0] * z + theta[1])).clamp(_TINY, 1 - _TINY)
        loss = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
        loss = loss + 0.5 / z.numel() * (theta - start).square().sum() * _PRIOR
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return theta.detach()


Calibration = Platt | Isotonic | Capped


def calibration_from_json(value: Mapping[str, Any]) -> Calibration:
    """Read a calibration back. Raises UsageError for an unknown kind."""
    kind = value.get("kind")
    if kind == "platt":
        return Platt(float(value["a"]), float(value["b"]))
    if kind == "isotonic":
        return Isotonic(tuple(map(float, value["x"])), tuple(map(float, value["y"])))
    if kind == "capped":
        return Capped(float(value["a"]), float(value["b"]), float(value["top"]))
    raise UsageError(
        f"calibration kind {kind!r} is unknown; it is 'platt', 'isotonic' or 'capped'; fit the probe again"
    )


def fit_calibration(score: Numbers, y: Numbers, method: Method = "auto", seed: int = 0) -> Calibration:
    """Fit a calibration; `auto` takes the better of both by 5-fold log-loss, Platt below 400 scores."""
    if method == "platt":
        return Platt.fit(score, y)
    if method == "isotonic":
        return Isotonic.fit(score, y)
    if method == "capped":
        return Capped.fit(score, y)
    s = numbers("score", score)
    t = labels("y", y, s.numel())
    both_classes("y", t)
    if s.numel() < _ISOTONIC_MINIMUM:
        return Platt.fit(s, t)
    losses = {kind: _held_out_loss(kind, s, t, seed) for kind in (Platt, Isotonic)}
    return min(losses, key=lambda kind: losses[kind]).fit(s, t)


def _held_out_loss(kind: type[Platt] | type[Isotonic], s: Tensor, t: Tensor, seed: int) -> float:
    fold = torch.randperm(s.numel(), generator=torch.Generator().manual_seed(seed)) % 5
    total = 0.0
    for index in range(5):
        inside, outside = fold != index, fold == index
        if 0 < float(t[inside].sum()) < float(inside.sum()):
            total += log_loss(kind.fit(s[inside], t[inside])(s[outside]), t[outside]) * float(outside.sum())
    return total / s.numel()


# -- measures ----------------------------------------------------------------------------------------------


def _probabilities(p: Numbers) -> Tensor:
    values = numbers("p", p)
    wrong = values[(values < 0) | (values > 1)]
    if wrong.numel():
        raise UsageError(
            f"p holds {wrong[0].item():g}; probabilities lie within 0 and 1; calibrate scores first"
        )
    return values


class Bin(NamedTuple):
    """One bar of a reliability diagram."""

    size: int
    mean_p: float
    accuracy: float


def reliability(p: Numbers, y: Numbers, bins: int = 15) -> tuple[Bin, ...]:
    """Return the non-empty ones of `bins` equal-width bins over [0,1]; bin i holds i/bins < p <= (i+1)/bins
    (the first also p = 0).
    """
    if bins < 1:
        raise UsageError(f"bins is {bins}; it must be at least 1")
    values = _probabilities(p)
    target = labels("y", y, values.numel())
    index = (torch.ceil(values * bins) - 1).clamp(0, bins - 1).long()
    return tuple(
        Bin(int(inside.sum()), float(values[inside].mean()), float(target[inside].mean()))
        for inside in (index == i for i in range(bins))
        if bool(inside.any())
    )


def ece(p: Numbers, y: Numbers, bins: int = 15) -> float:
    """Expected calibration error: sum over bins of share * |mean p - accuracy| (Guo et al. 2017, eq. 3)."""
    found = reliability(p, y, bins)
    total = sum(one.size for one in found)
    return sum(one.size / total * abs(one.mean_p - one.accuracy) for one in found)


def brier(p: Numbers, y: Numbers) -> float:
    """Mean squared difference between probability and outcome."""
    values = _probabilities(p)
    return float(((values - labels("y", y, values.numel())) ** 2).mean())


def log_loss(p: Numbers, y: Numbers) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept 1e-12 away from 0 and 1."""
    values = _probabilities(p).clamp(_TINY, 1 - _TINY)
    target = labels("y", y, values.numel())
    return float(-(target * values.log() + (1 - target) * (1 - values).log()).mean())


def auroc(score: Numbers, y: Numbers) -> float:
    """Probability that a positive scores above a negative, ties counting half. Raises UsageError when only
    one class is present.
    """
    s = numbers("score", score)
    t = labels("y", y, s.numel())
    both_classes("y", t)
    _, inverse, count = torch.unique(s, return_inverse=True, return_counts=True)
    last = torch.cumsum(count, 0).to(torch.float64)
    rank = (last - (count - 1) / 2)[inverse]  # mean rank of ties, from 1
    positives = float(t.sum())
    negatives = t.numel() - positives
    return (float(rank[t == 1].sum()) - positives * (positives + 1) / 2) / (positives * negatives)
