"""What heads see of a prompt, and what they learn to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...store.errors import UsageError


@dataclass(frozen=True, eq=False)
class Seen:
    """N prompts as heads see them.

    states: the scout's pooled vectors [N,F] float32, or None without a scout. signals: the scout's own
    confidence [N,S], or None. codes: activations of the scout's dictionary [N,L], or None. groups: the
    table's groups, '' where unknown, or empty.
    """

    texts: tuple[str, ...]
    states: Tensor | None = None
    signals: Tensor | None = None
    codes: Tensor | None = None
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | Tensor) -> Seen:
        """The same of some rows."""
        place = torch.as_tensor(rows, dtype=torch.long)
        index = place.tolist()
        return Seen(
            tuple(self.texts[i] for i in index),
            None if self.states is None else self.states[place],
            None if self.signals is None else self.signals[place],
            None if self.codes is None else self.codes[place],
            tuple(self.groups[i] for i in index) if self.groups else (),
        )

    def need_states(self, who: str) -> Tensor:
        """The states. Raises UsageError where there are none."""
        if self.states is None:
            raise UsageError(f"the head {who!r} reads a scout's states and there is no scout; name one")
        return self.states


_FEWEST = 20  # shared labels of a model that a deviation can be learnt from


class Targets(NamedTuple):
    """Quality [N,M] taken apart: quality = base + level + deviation.

    base [M]: each model's mean. values [N,1+M]: first the level (how much easier the prompt is than usual,
    for all models), then each model's deviation from it (what choosing is about: a difference of two
    deviations is a gain). NaN where there is no label.
    """

    base: Tensor
    values: Tensor


def targets_of(quality: Tensor) -> Targets:
    """Take quality [N,M] (NaN: no label) apart.

    A deviation needs a second label in its row to be told from the level. Where most rows have only one
    label, or a model was asked prompts of its own alone, the level is left at 0 and deviations carry
    everything.
    """
    known = ~quality.isnan()
    base = torch.nanmean(quality.double(), 0).float().nan_to_num(0.0)
    rest = torch.where(known, quality - base, torch.zeros_like(quality))
    count = known.sum(1, keepdim=True)
    nothing = torch.full_like(quality, torch.nan)
    shared = known & (count > 1)
    apart = bool(((known.sum(0) >= _FEWEST) & (shared.sum(0) < _FEWEST)).any())
    if apart or float((count > 1).float().mean()) < 0.5:
        return Targets(base, torch.cat([torch.zeros_like(rest[:, :1]), torch.where(known, rest, nothing)], 1))
    level = rest.sum(1, keepdim=True) / count.clamp_min(1)
    deviation = torch.where(shared, rest - level, nothing)
    return Targets(base, torch.cat([torch.where(count > 0, level, nothing[:, :1]), deviation], 1))


def parts_of(quality: Tensor, base: Tensor) -> Tensor:
    """Predicted quality [N,M] as level and deviations [N,1+M]."""
    rest = quality - base
    level = rest.mean(1, keepdim=True)
    return torch.cat([level, rest - level], 1)


def quality_of(parts: Tensor, base: Tensor) -> Tensor:
    """Level and deviations [N,1+M] put together to quality [N,M]."""
    return base + parts[:, :1] + parts[:, 1:]
