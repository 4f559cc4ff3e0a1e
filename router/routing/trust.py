"""How far a prediction can be trusted: calibration of P(correct) on soft labels, and what is unfamiliar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .heads import Standard
from .ridge import eigen
from .seen import Seen

LEAST, MOST = 0.002, 0.998
_DIRECTIONS = 48
_STEPS = 60


class Curves(NamedTuple):
    """One rising curve a model: P = sigmoid(slope q + offset), or q itself within (0, 1) where slope is NaN.

    slope, offset [M].
    """

    slope: Tensor
    offset: Tensor

    def __call__(self, quality: Tensor) -> Tensor:
        """Predicted quality [N,M] -> P(correct) [N,M]."""
        curved = torch.sigmoid(quality * self.slope.nan_to_num(0.0) + self.offset)
        return torch.where(self.slope.isnan(), quality, curved).clamp(LEAST, MOST)


def straight(count: int) -> Curves:
    """Curves that keep the predicted quality, and so every gain."""
    return Curves(torch.full((count,), torch.nan), torch.zeros(count))


def fit_curves(predicted: Tensor, quality: Tensor) -> Curves:
    """Platt's calibration of predicted [N,M] on quality [N,M] within 0..1 (NaN: no label)."""
    pairs = []
    for q, y in zip(predicted.T, quality.T, strict=True):
        known = ~y.isnan()
        pairs.append(_platt(q[known].double(), y[known].double()))
    slope, offset = zip(*pairs, strict=True)
    return Curves(torch.tensor(slope, dtype=torch.float32), torch.tensor(offset, dtype=torch.float32))


def _platt(q: Tensor, y: Tensor) -> tuple[float, float]:
    """Newton on the cross-entropy of sigmoid(a z + b), z standardised, with Platt's two pseudo-labels."""
    mean = float((y.sum() + 1) / (y.numel() + 2))
    centre, spread = (
        (q.mean(), q.std().clamp_min(1e-9)) if q.numel() > 1 else (torch.zeros(()), torch.ones(()))
    )
    x = torch.stack([(q - centre) / spread, torch.ones_like(q)], 1)
    theta = torch.tensor([0.0, float(torch.logit(torch.tensor(mean)))], dtype=torch.float64)
    ridge = torch.eye(2, dtype=torch.float64)
    prior = torch.tensor([0.0, float(theta[1])], dtype=torch.float64)
    for _ in range(_STEPS):
        p = torch.sigmoid(x @ theta)
        gradient = x.T @ (p - y) + ridge @ (theta - prior)
        step = torch.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + ridge, gradient)
        theta = theta - step.clamp(-2, 2)
        if float(step.abs().max()) < 1e-8:
            break
    # a falling curve would turn the heads round on noise: then the mean is all there is
    slope = max(0.0, float(theta[0])) / float(spread)
    offset = float(theta[1]) - slope * float(centre) if slope else float(torch.logit(torch.tensor(mean)))
    return slope, offset


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
        """[N,F] -> [N]."""
        return _distance(Standard(self.mean, self.scale)(states), self.directions, self.rest)

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


def _distance(x: Tensor, directions: Tensor, rest: Tensor) -> Tensor:
    """Squared whitened length inside (a mean over directions) plus relative squared length outside."""
    inside = x @ directions
    unit = torch.nn.functional.normalize(directions, dim=0)
    outside = (x.square().sum(1) - (x @ unit).square().sum(1)).clamp_min(0) / rest
    return inside.square().mean(1) + outside
