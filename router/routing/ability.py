"""Ability and difficulty: P(model m answers i) = sigmoid(a_m . d(x_i) + b_m), d linear in the states.

Item response theory with items described by features: Birnbaum (1968) for the curve, Fischer, 'The linear
logistic test model' (1973) for difficulty as a linear function. All models share what makes a prompt hard, so
every label informs every model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .heads import Standard
from .ridge import eigen
from .seen import Seen, parts_of

RIDGES = (0.3, 3.0, 30.0)
_DIRECTIONS = 128
_STEPS = 40


@dataclass(frozen=True, eq=False)
class Ability:
    """mean, scale [F]; easiness [F,R]: what makes a prompt easy; ability [R,M], offset [M]; base [M]."""

    kind: ClassVar[str] = "ability"
    mean: Tensor
    scale: Tensor
    easiness: Tensor
    ability: Tensor
    offset: Tensor
    base: Tensor

    def predict(self, seen: Seen) -> Tensor:
        x = Standard(self.mean, self.scale)(seen.need_states(self.kind)) @ self.easiness
        return parts_of(torch.sigmoid(x @ self.ability + self.offset), self.base)

    @classmethod
    def fit(cls, seen: Seen, quality: Tensor, base: Tensor, rank: int = 2) -> Ability:
        """Fit on quality [N,M] (NaN: no label); the penalty by a held-out fifth."""
        states = seen.need_states(cls.kind)
        standard = Standard.of(states)
        x = standard(states)
        _, vectors = eigen(x.T @ x)
        directions = vectors[:, -_DIRECTIONS:]
        z = x @ directions
        held = torch.arange(z.shape[0]) % 5 == 4
        losses = []
        for ridge in RIDGES:
            found = _fit(z[~held], quality[~held], ridge, rank)
            losses.append(float(_loss(z[held], quality[held], *found)))
        u, a, b = _fit(z, quality, RIDGES[int(torch.tensor(losses).argmin())], rank)
        return cls(standard.mean, standard.scale, directions @ u, a, b, base)


def _loss(z: Tensor, quality: Tensor, u: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Sum of cross-entropies over known labels."""
    logit = (z @ u) @ a + b
    known = ~quality.isnan()
    return (known * (softplus(logit) - quality.nan_to_num(0.0) * logit)).sum()


def _fit(z: Tensor, quality: Tensor, ridge: float, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Minimise the cross-entropy + ridge/2 (|u|^2 + |a - a0|^2), where a0 says: all models share dimension
    1.
    """
    count = quality.shape[1]
    start = torch.nanmean(quality, 0).nan_to_num(0.5).clamp(0.02, 0.98)
    prior = torch.zeros(rank, count)
    prior[0] = 1.0
    generator = torch.Generator().manual_seed(0)
    u = (0.01 * torch.randn(z.shape[1], rank, generator=generator)).requires_grad_()
    a = (prior + 0.01 * torch.randn(rank, count, generator=generator)).requires_grad_()
    b = torch.logit(start).requires_grad_()
    solver = torch.optim.LBFGS([u, a, b], max_iter=_STEPS, history_size=8, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = _loss(z, quality, u, a, b) + 0.5 * ridge * (u.square().sum() + (a - prior).square().sum())
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return u.detach(), a.detach(), b.detach()
