"""Heads that answer by likeness: a radial kernel on the states, and nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from .heads import Standard, penalties
from .ridge import chunks, eigen, fit_ridge, gathered
from .seen import Seen

LANDMARKS = 1500
GAMMA = 0.5
NEIGHBOURS = (5, 10, 20, 40, 80, 160)
_DIRECTIONS = 64
_KEPT = 20_000
_CHUNK = 2048


def radial(x: Tensor, landmarks: Tensor, gamma: float, lengths: Tensor | None = None) -> Tensor:
    """exp(-gamma |a - b|^2) of rows [N,F] and landmarks [m,F]: [N,m].

    lengths [m]: the landmarks' squared lengths, where they are known: they cost more than one prompt's rest.
    """
    own = landmarks.square().sum(1) if lengths is None else lengths
    squares = x.square().sum(1)[:, None] + own - 2 * x @ landmarks.T
    return torch.exp(-gamma * squares.clamp_min(0.0))


def whitener(kernel: Tensor) -> Tensor:
    """K^(-1/2) restricted to the directions that count: [m,m] -> [m,r]. Williams and Seeger (2001)."""
    values, vectors = eigen(kernel.double())
    keep = values > 1e-6 * values[-1]
    return (vectors[:, keep] / values[keep].sqrt()).float()


def landmark_rows(count: int, most: int = LANDMARKS) -> Tensor:
    """All rows, or `most` of them drawn once and for all."""
    if count <= most:
        return torch.arange(count)
    # a thousand are enough for large tables, and keep 50,000 prompts within memory
    return torch.randperm(count, generator=torch.Generator().manual_seed(count))[:1000].sort().values


@dataclass(frozen=True, eq=False)
class Kernel:
    """Kernel ridge regression on standardised states through landmarks; with few rows, all of them.

    mean, scale [F]; landmarks [m,F]; weight [m,1+M]; bias [1+M].
    """

    kind: ClassVar[str] = "kernel"
    mean: Tensor
    scale: Tensor
    landmarks: Tensor
    weight: Tensor
    bias: Tensor
    gamma: float = GAMMA

    def predict(self, seen: Seen) -> Tensor:
        x = Standard(self.mean, self.scale)(seen.need_states(self.kind))
        near = (radial(part, self.landmarks, self.gamma, self._lengths) for part in chunks(x, _CHUNK))
        return torch.cat([one @ self.weight for one in near]) + self.bias

    @cached_property
    def _lengths(self) -> Tensor:
        """Squared lengths of the landmarks [m]: measured once, for every prompt to come."""
        return self.landmarks.square().sum(1)

    @classmethod
    def fit(cls, seen: Seen, values: Tensor, gamma: float = GAMMA) -> Kernel:
        """Ridge regression in the kernel's space."""
        states = seen.need_states(cls.kind)
        standard = Standard.of(states)
        x = standard(states)
        landmarks = x[landmark_rows(x.shape[0])]
        half = whitener(radial(landmarks, landmarks, gamma))
        pieces = (radial(part, landmarks, gamma) @ half for part in chunks(x, _CHUNK))
        found = fit_ridge(gathered(pieces, len(x)), values, penalties(values))
        return cls(standard.mean, standard.scale, landmarks, half @ found.weight, found.bias, gamma)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The mean of the k nearest labelled prompts (cosine in the leading directions of the states).

    mean, scale [F]; directions [F,d]; known [N,d] of unit rows; values [N,1+M], NaN where unlabelled.
    """

    kind: ClassVar[str] = "neighbours"
    mean: Tensor
    scale: Tensor
    directions: Tensor
    known: Tensor
    values: Tensor
    fallback: Tensor
    k: int

    def predict(self, seen: Seen) -> Tensor:
        unit = self._unit(seen)
        return torch.cat([self._mean(part @ self.known.T, (self.k,))[0] for part in chunks(unit, _CHUNK)])

    def _unit(self, seen: Seen) -> Tensor:
        x = Standard(self.mean, self.scale)(seen.need_states(self.kind)) @ self.directions
        return torch.nn.functional.normalize(x, dim=1)

    def _mean(self, likeness: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
        """Means over the k most alike, for each k: [n,1+M] each."""
        order = likeness.topk(min(max(sizes), likeness.shape[1]), dim=1).indices
        found = self.values[order]
        means = [torch.nanmean(found[:, :k], 1) for k in sizes]
        return [torch.where(one.isnan(), self.fallback, one) for one in means]

    @classmethod
    def fit(cls, seen: Seen, values: Tensor) -> Neighbours:
        """Keep the rows; k by leave-one-out error of the deviations."""
        states = seen.need_states(cls.kind)
        standard = Standard.of(states)
        rows = landmark_rows(states.shape[0], _KEPT) if states.shape[0] > _KEPT else slice(None)
        x = standard(states[rows])
        _, vectors = eigen(x.T @ x)
        directions = vectors[:, -_DIRECTIONS:]
        known = torch.nn.functional.normalize(x @ directions, dim=1)
        head = cls(
            standard.mean,
            standard.scale,
            directions.contiguous(),
            known,
            values[rows],
            torch.nanmean(values, 0).nan_to_num(0.0),
            NEIGHBOURS[0],
        )
        return cls(**{**vars(head), "k": head._best()})

    def _best(self) -> int:
        """k of the lowest leave-one-out error, on at most 2,000 rows."""
        some = self.known[:: max(1, self.known.shape[0] // 2000)]
        target = self.values[:: max(1, self.known.shape[0] // 2000)]
        likeness = some @ self.known.T
        own = torch.arange(0, self.known.shape[0], max(1, self.known.shape[0] // 2000))[: some.shape[0]]
        likeness[torch.arange(some.shape[0]), own] = -2.0
        column = slice(1, None) if target.shape[1] > 2 else slice(None)
        known = ~target[:, column].isnan()
        errors = []
        for found in self._mean(likeness, NEIGHBOURS):
            gap = (found - target)[:, column].nan_to_num(0.0) * known
            errors.append(float(gap.square().sum()))
        return NEIGHBOURS[int(torch.tensor(errors).argmin())]
