"""Which features go with success: streaming Pearson correlation between activations and outcomes.

Cho et al., 'CorrSteer' (2025): pool each feature over the generated tokens (maximum), correlate with whether
the answer was right, keep positive ones, and steer with a feature's mean activation on right answers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...store.errors import UsageError
from ..checks import Numbers, labels, matrix

# `all`: mean activation over all right answers, zeros included; `active`: over those where it is active;
# `contrast`: mean over right answers less the mean over wrong ones
Mean = Literal["all", "active", "contrast"]
Sign = Literal["positive", "negative"]


class Choice(NamedTuple):
    """A feature that goes with success, and the strength to steer with (see `Mean`)."""

    feature: int
    correlation: float
    coefficient: float


class Correlation:
    """Sums for S features; nothing of the samples is kept. Feed batches with `add`, then read."""

    def __init__(self, features: int) -> None:
        self._count = 0
        # x, x^2, x y, (x > 0) y
        self._sums = torch.zeros(4, features, dtype=torch.float64)
        self._y = 0.0

    def add(self, pooled: Tensor, y: Numbers) -> None:
        """Take in activations [N,S], each pooled over an answer's tokens, and outcomes y [N] in {0,1}."""
        x = matrix("pooled", pooled, self._sums.shape[1]).detach().cpu().double()
        target = labels("y", y, x.shape[0])
        self._count += x.shape[0]
        self._y += float(target.sum())
        active = ((x > 0) * target[:, None]).sum(0)
        self._sums += torch.stack([x.sum(0), (x * x).sum(0), (x * target[:, None]).sum(0), active])

    def coefficients(self) -> Tensor:
        """Return r [S], float64; 0 for a feature that never varies. Raises UsageError when all outcomes are
        equal.
        """
        if self._y in (0.0, float(self._count)):
            raise UsageError(
                f"all {self._count} outcomes are {int(self._y > 0)}; a correlation needs both; add others"
            )
        x, square, xy = (self._sums / self._count)[:3]
        y = self._y / self._count
        variance = (square - x * x).clamp_min(0.0)
        varies = variance > 1e-12 * square.clamp_min(1e-30)
        r = (xy - x * y) / (variance.clamp_min(1e-300) * y * (1 - y)).sqrt()
        return torch.where(varies, r, torch.zeros_like(r)).clamp(-1, 1)

    def best(self, top: int = 1, sign: Sign = "positive", mean: Mean = "all") -> tuple[Choice, ...]:
        """Return the `top` features of highest positive (or lowest negative) correlation, best first."""
        r = self.coefficients()
        order = r.argsort(descending=sign == "positive", stable=True)[:top].tolist()
        strength = self._strength(mean)
        keep = [i for i in order if (r[i] > 0 if sign == "positive" else r[i] < 0)]
        return tuple(Choice(i, float(r[i]), float(strength[i])) for i in keep)

    def _strength(self, mean: Mean) -> Tensor:
        x, _, xy, active = self._sums
        if mean == "active":
            return torch.as_tensor(xy / active.clamp_min(1.0))
        right = torch.as_tensor(xy / self._y)
        return right - (x - xy) / (self._count - self._y) if mean == "contrast" else right
