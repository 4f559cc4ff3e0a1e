"""Heads that know groups: a table of means by group, and one that guesses the group from the states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...store.errors import UsageError
from .heads import Standard, penalties
from .ridge import eigen, fit_ridge
from .seen import Seen

_FEWEST = 4  # rows of a group that is worth telling from others
_DIRECTIONS = 128


def one_hot(groups: Sequence[str], names: Sequence[str]) -> Tensor:
    """[N,G]; a group that is not among the names is a row of zeros."""
    place = {name: i for i, name in enumerate(names)}
    found = torch.zeros(len(groups), len(names))
    for row, group in enumerate(groups):
        if group in place:
            found[row, place[group]] = 1.0
    return found


def need_groups(seen: Seen) -> tuple[str, ...]:
    """The groups. Raises UsageError where there are none."""
    if not seen.groups:
        raise UsageError(
            "the table has no column 'group' and a head by group was asked for; add one or leave it"
        )
    return seen.groups


@dataclass(frozen=True, eq=False)
class Prior:
    """The mean of the prompt's group, drawn to the mean of all; the group must be told at run time.

    weight [G,1+M]; bias [1+M]: what an unknown group gets.
    """

    kind: ClassVar[str] = "prior"
    weight: Tensor
    bias: Tensor
    names: tuple[str, ...] = ()

    def predict(self, seen: Seen) -> Tensor:
        return one_hot(seen.groups or ("",) * len(seen), self.names) @ self.weight + self.bias

    @classmethod
    def fit(cls, seen: Seen, values: Tensor) -> Prior:
        """Ridge regression on indicators, which is a mean with as many pseudo-rows as the penalty."""
        names = tuple(sorted(set(need_groups(seen)) - {""}))
        found = fit_ridge(one_hot(seen.groups, names), values, penalties(values))
        return cls(found.weight, found.bias, names)


@dataclass(frozen=True, eq=False)
class Guess:
    """Guesses the group from the states, and gives the mean over groups. Needs no group at run time.

    Linear discriminant analysis (Fisher 1936) in the leading directions of the states. mean, scale [F];
    directions [F,d]; slope [d,G], offset [G]: log posterior up to a constant; weight [G,1+M]; bias [1+M].
    """

    kind: ClassVar[str] = "guess"
    mean: Tensor
    scale: Tensor
    directions: Tensor
    slope: Tensor
    offset: Tensor
    weight: Tensor
    bias: Tensor

    def predict(self, seen: Seen) -> Tensor:
        return self.posterior(seen) @ self.weight + self.bias

    def posterior(self, seen: Seen) -> Tensor:
        """P(group | states) [N,G]."""
        x = Standard(self.mean, self.scale)(seen.need_states(self.kind)) @ self.directions
        return torch.softmax(x @ self.slope + self.offset, 1)

    @classmethod
    def fit(cls, seen: Seen, values: Tensor) -> Guess:
        """Fit the guess on the table's groups, and shrunken group means on the labels."""
        states, groups = seen.need_states(cls.kind), need_groups(seen)
        counts = {name: groups.count(name) for name in sorted(set(groups) - {""})}
        names = [name for name, count in counts.items() if count >= _FEWEST]
        if len(names) < 2:
            raise UsageError("fewer than two groups have 4 rows: too few to guess a group from a prompt")
        standard = Standard.of(states)
        x = standard(states)
        _, vectors = eigen(x.T @ x)
        directions = vectors[:, -_DIRECTIONS:].contiguous()
        member = one_hot(groups, names)
        slope, offset = _discriminant(x @ directions, member)
        found = fit_ridge(member, values, penalties(values))
        return cls(standard.mean, standard.scale, directions, slope, offset, found.weight, found.bias)


def _discriminant(z: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes [d,G] and offsets [G] of a shrunken linear discriminant on z [N,d]."""
    sizes = member.sum(0)
    means = (member.T @ z) / sizes[:, None]
    inside = member.sum(1) > 0
    rest = z[inside] - member[inside] @ means
    within = rest.T @ rest / max(1, rest.shape[0])
    ridge = 0.1 * within.diagonal().mean() * torch.eye(within.shape[0])
    slope = torch.linalg.solve(within + ridge, means.T)
    return slope, -0.5 * (means * slope.T).sum(1) + (sizes / sizes.sum()).log()
