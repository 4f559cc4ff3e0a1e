"""Heads: each predicts level and deviations [N,1+M] of quality from what is seen of a prompt.

A head is a frozen dataclass whose fields are tensors or plain values, so all of them are kept and read back
alike. `RECIPES` in `recipes.py` says how each is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ...store.errors import UsageError
from .ridge import eigen, fit_ridge
from .seen import Seen


class Head(Protocol):
    """A fitted head."""

    kind: ClassVar[str]

    def predict(self, seen: Seen) -> Tensor:
        """Level and deviations of every prompt, [N,1+M]."""


def tensors_of(head: Head) -> dict[str, Tensor]:
    """A head's tensors by field."""
    found = {one.name: getattr(head, one.name) for one in fields(head)}  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def facts_of(head: Head) -> dict[str, Any]:
    """A head's plain fields, ready for JSON."""
    found = {one.name: getattr(head, one.name) for one in fields(head)}  # type: ignore[arg-type]
    return {name: value for name, value in found.items() if not isinstance(value, Tensor)}


def restored(kind: type[Any], facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Head:
    """A head from what `facts_of` and `tensors_of` gave. Raises TypeError for other fields."""
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()}
    head: Head = kind(**plain, **tensors)
    return head


def penalties(values: Tensor) -> list[int]:
    """One penalty for the level, one for all deviations: choosing between models is one task."""
    return [0] + [1] * (values.shape[1] - 1)


@dataclass(frozen=True, eq=False)
class Standard:
    """Columns moved to mean 0 and deviation 1, then divided by sqrt(F): rows are about one unit long."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Standard:
        """Measured on x [N,F]; a constant column becomes 0."""
        mean, deviation = x.mean(0), x.std(0, correction=0)
        varies = deviation > 1e-6 * (mean.abs() + deviation.mean() + 1e-30)
        scale = torch.where(varies, 1 / deviation.clamp_min(1e-30), torch.zeros_like(deviation))
        return cls(mean, scale / max(1.0, float(varies.sum())) ** 0.5)

    def __call__(self, x: Tensor) -> Tensor:
        """[N,F] -> [N,F]."""
        return (x - self.mean) * self.scale


@dataclass(frozen=True, eq=False)
class Linear:
    """Linear in the standardised states; `rank` is how many directions the deviations may use (0: all).

    mean, scale [F]; weight [F,1+M]; bias [1+M].
    """

    kind: ClassVar[str] = "linear"
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    rank: int = 0

    def predict(self, seen: Seen) -> Tensor:
        x = Standard(self.mean, self.scale)(seen.need_states(self.kind))
        return x @ self.weight + self.bias

    @classmethod
    def fit(cls, seen: Seen, values: Tensor) -> Linear:
        """Ridge regression of values [N,1+M]."""
        states = seen.need_states(cls.kind)
        standard = Standard.of(states)
        found = fit_ridge(standard(states), values, penalties(values))
        return cls(standard.mean, standard.scale, found.weight, found.bias)

    @classmethod
    def fit_low_rank(cls, seen: Seen, values: Tensor) -> Linear:
        """The same, with deviations through a few shared directions; their number by leave-one-out error.

        Izenman, 'Reduced-rank regression for the multivariate linear model' (1975).
        """
        states = seen.need_states(cls.kind)
        standard = Standard.of(states)
        found = fit_ridge(standard(states), values, penalties(values))
        known = ~found.loo[:, 1:].isnan()
        loo = found.loo[:, 1:].nan_to_num(0.0)
        _, vectors = eigen((loo.T @ loo).double())
        vectors = vectors.float().flip(1)
        target = values[:, 1:].nan_to_num(0.0)
        errors = []
        for rank in range(1, vectors.shape[1] + 1):
            plane = vectors[:, :rank] @ vectors[:, :rank].T
            errors.append(float(((target - loo @ plane) * known).square().sum()))
        rank = int(torch.tensor(errors).argmin()) + 1
        plane = vectors[:, :rank] @ vectors[:, :rank].T
        weight = torch.cat([found.weight[:, :1], found.weight[:, 1:] @ plane], 1)
        bias = torch.cat([found.bias[:1], found.bias[1:] @ plane])
        return cls(standard.mean, standard.scale, weight, bias, rank)


@dataclass(frozen=True, eq=False)
class Plain:
    """Linear in another view of the prompt: the scout's `signals` (the log-probability of its next token and
    its entropy: a signal nobody trained), or the `codes` of its dictionary.
    """

    kind: ClassVar[str] = "plain"
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    view: str = "signals"

    def predict(self, seen: Seen) -> Tensor:
        return Standard(self.mean, self.scale)(view_of(seen, self.view)) @ self.weight + self.bias

    @classmethod
    def fit(cls, seen: Seen, values: Tensor, view: str = "signals") -> Plain:
        """Ridge regression on the view."""
        x = view_of(seen, view)
        standard = Standard.of(x)
        found = fit_ridge(standard(x), values, penalties(values))
        return cls(standard.mean, standard.scale, found.weight, found.bias, view)


def view_of(seen: Seen, view: str) -> Tensor:
    """The signals or codes. Raises UsageError where the scout gives none."""
    found = {"signals": seen.signals, "codes": seen.codes}[view]
    if found is None:
        raise UsageError(f"this scout gives no {view}, and a head of the policy reads them; fit it again")
    return found


@dataclass(frozen=True, eq=False)
class Constant:
    """The means, whatever the prompt: everything goes to the best single model."""

    kind: ClassVar[str] = "constant"
    values: Tensor

    def predict(self, seen: Seen) -> Tensor:
        return self.values.expand(len(seen), -1)

    @classmethod
    def fit(cls, seen: Seen, values: Tensor) -> Constant:
        """The mean of every column."""
        return cls(torch.nanmean(values, 0).nan_to_num(0.0))
