"""How far a prediction can be trusted: calibration of P(correct) on soft labels, and what is unfamiliar."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .heads import Standard
from .ridge import eigen
from .seen import Seen

LEAST, MOST = 0.002, 0.998
_DIRECTIONS = 48
_STEPS = 60
_EDGE = 0.02  # predicted quality beyond it says no more than this
_KNOTS = (0.25, 0.5, 0.75)  # quantiles of the predictions
_STIFF = 10.0  # how many certain labels it takes to bend a curve


class Curves(NamedTuple):
    """One rising curve a model, from predicted quality q to P(correct): piecewise linear between logits.

    logit P = slope x + offset + sum_k bends_k max(0, x - knots_k), x = logit of q kept within 0.02 and 0.98;
    or q itself within (0, 1) where slope is NaN. slope, offset [M]; knots, bends [K,M].
    """

    slope: Tensor
    offset: Tensor
    knots: Tensor
    bends: Tensor

    def __call__(self, quality: Tensor) -> Tensor:
        """Predicted quality [N,M] -> P(correct) [N,M]."""
        x = torch.logit(quality.clamp(_EDGE, 1 - _EDGE))
        bent = (self.bends * (x[:, None] - self.knots).clamp_min(0.0)).sum(1)
        curved = torch.sigmoid(x * self.slope.nan_to_num(0.0) + self.offset + bent)
        return torch.where(self.slope.isnan(), quality, curved).clamp(LEAST, MOST)


def straight(count: int) -> Curves:
    """Curves that keep the predicted quality, and so every gain."""
    nothing = torch.zeros(len(_KNOTS), count)
    return Curves(torch.full((count,), torch.nan), torch.zeros(count), nothing, nothing)


def fit_curves(predicted: Tensor, quality: Tensor) -> Curves:
    """Calibrate predicted [N,M] on quality [N,M] within 0..1 (NaN: no label).

    Logistic regression on a linear spline, drawn to the line that changes nothing: with few labels a curve
    stays near it, with thousands it follows them (Lucena, 'Spline-based probability calibration', 2018).
    """
    found = []
    for q, y in zip(predicted.T, quality.T, strict=True):
        known = ~y.isnan()
        found.append(_spline(q[known].double(), y[known].double()))
    slope, offset, knots, bends = (torch.stack(one, -1).float() for one in zip(*found, strict=True))
    return Curves(slope, offset, knots, bends)


def _spline(q: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """slope, offset, knots [K], bends [K] of one model, float64."""
    x = torch.logit(q.clamp(_EDGE, 1 - _EDGE)) if q.numel() else q
    centre, spread = _size(x)
    places = torch.tensor(_KNOTS, dtype=torch.float64)
    knots = torch.quantile(x, places) if x.numel() else places
    hinges = (x[:, None] - knots).clamp_min(0.0)
    columns = torch.cat([(x - centre)[:, None], torch.ones_like(x)[:, None], hinges], 1)
    size = torch.cat([spread[None], torch.ones(1, dtype=x.dtype), spread.expand(knots.numel())])
    prior = torch.cat([spread[None], centre[None], torch.zeros_like(knots)])
    stiff = torch.tensor([1.0, 1.0] + [_STIFF] * knots.numel(), dtype=torch.float64)
    theta = logistic(columns / size, y, stiff, prior) / size
    rising = torch.cat([theta[:1], theta[:1] + theta[2:].cumsum(0)]).clamp_min(0.0)
    bends = rising.diff()
    # a falling piece would turn the heads round on noise: it is level instead, and the mean stays
    bare = rising[0] * (x - centre) + hinges @ bends
    fallen = bool((rising[1:] - theta[:1] - theta[2:].cumsum(0)).abs().max() > 0) or float(theta[0]) < 0
    offset = logistic(torch.ones_like(x)[:, None], y, stiff[:1], theta[1:2], bare)[0] if fallen else theta[1]
    return rising[0], offset - rising[0] * centre, knots, bends


def _size(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.numel() < 2:
        return torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return x.mean(), x.std().clamp_min(1e-6)


def logistic(x: Tensor, y: Tensor, ridge: Tensor, prior: Tensor, shift: Tensor | None = None) -> Tensor:
    """Weights [F] of sigmoid(x [N,F] . w + shift [N]) for y [N] within 0..1, by Newton's method.

    The penalty is ridge_f (w_f - prior_f)^2 / 2. float64.
    """
    theta, moved = prior.clone(), torch.zeros_like(y) if shift is None else shift
    for _ in range(_STEPS):
        p = torch.sigmoid(x @ theta + moved)
        gradient = x.T @ (p - y) + ridge * (theta - prior)
        step = torch.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + torch.diag(ridge), gradient)
        theta = theta - step.clamp(-2, 2)
        if float(step.abs().max()) < 1e-8:
            break
    return theta


def platt(q: Tensor, y: Tensor) -> tuple[float, float]:
    """Slope and offset of P = sigmoid(slope q + offset) on labels y [N] (NaN: none), what a probe keeps."""
    known = ~y.isnan()
    x, label = q[known].double(), y[known].double()
    centre, spread = _size(x)
    mean = torch.logit((label.sum() + 1) / (label.numel() + 2))
    columns = torch.stack([(x - centre) / spread, torch.ones_like(x)], 1)
    prior = torch.stack([torch.zeros_like(mean), mean])
    theta = logistic(columns, label, torch.ones(2, dtype=torch.float64), prior)
    if float(theta[0]) <= 0:
        return 0.0, float(mean)
    slope = float(theta[0] / spread)
    return slope, float(theta[1]) - slope * float(centre)


@dataclass(frozen=True, eq=False)
class Familiar:
    """How usual a prompt's states are: Mahalanobis distance in the leading directions, plus what lies
    outside.

    mean, scale [F]; directions [F,d] scaled to unit variance; rest: mean squared length outside them;
    reference [K]: distances of prompts that the fit did not see, sorted.
    """

    mean: Tensor
    scale: Tensor
    directions: Tensor
    rest: Tensor
    reference: Tensor

    def distance(self, states: Tensor) -> Tensor:
        """Squared whitened length inside (a mean over directions) plus relative squared length outside:
        [N,F] -> [N].
        """
        x = Standard(self.mean, self.scale)(states)
        inside = x @ self.directions
        outside = (x.square().sum(1) - (x @ self._unit).square().sum(1)).clamp_min(0) / self.rest
        return inside.square().mean(1) + outside

    @cached_property
    def _unit(self) -> Tensor:
        """The directions, each one long [F,d]."""
        return torch.nn.functional.normalize(self.directions, dim=0)

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by field."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def strange(self, seen: Seen) -> Tensor:
        """The share of known prompts that are less strange: [N] within 0 and 1; 0.99 is one in a hundred."""
        distance = self.distance(seen.need_states("familiar"))
        below = torch.searchsorted(self.reference, distance)
        return below / (self.reference.numel() + 1)

    @classmethod
    def fit(cls, states: Tensor) -> Familiar:
        """Directions from four fifths of the rows, reference distances from the others."""
        held = torch.arange(states.shape[0]) % 5 == 4
        standard = Standard.of(states[~held])
        x = standard(states[~held])
        squares, vectors = eigen(x.T @ x / x.shape[0])
        most = max(1, min(_DIRECTIONS, x.shape[0] // 10))
        squares, vectors = squares[-most:], vectors[:, -most:]
        directions = vectors / (squares + 1e-6 * squares.max()).sqrt()
        outside = (x.square().sum(1) - (x @ vectors).square().sum(1)).clamp_min(0).mean().clamp_min(1e-9)
        found = cls(standard.mean, standard.scale, directions, outside, torch.zeros(1))
        reference = found.distance(states[held]).sort().values
        return cls(standard.mean, standard.scale, directions, outside, reference)
