"""What a model says under changed weights: on the cases of an edit, and on rows that it must leave alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...router.locate.case import Case

T = TypeVar("T")


def by_length(items: Iterable[T], length: Callable[[T], int]) -> list[list[T]]:
    """Group items of one length, shortest first: batches without padding."""
    found: dict[int, list[T]] = {}
    for item in items:
        found.setdefault(length(item), []).append(item)
    return [found[at] for at in sorted(found)]


def log_probabilities(
    model: nn.Module, rows: Sequence[Sequence[int]], weights: Mapping[str, Tensor]
) -> Tensor:
    """Log-probabilities [B,T,V] of next tokens on rows of one length, with some weights replaced."""
    output: Any = torch.func.functional_call(model, dict(weights), (torch.tensor([list(r) for r in rows]),))
    found: Tensor = output.logits.float().log_softmax(-1)
    return found


def answers(model: nn.Module, cases: Sequence[Case], weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of each case's answer and of its `against` (where there is none, of the answer), both
    [N] in the order of lengths, with some weights replaced.
    """
    parts = []
    for some in by_length(cases, lambda case: len(case.ids)):
        last = log_probabilities(model, [case.ids for case in some], weights)[:, -1]
        words = [(c.answer, c.answer if c.against is None else c.against) for c in some]
        parts.append(last.gather(1, torch.tensor(words)))
    ours, theirs = torch.cat(parts).unbind(1)
    return ours, theirs


class Kept:
    """Token rows and what the model says on them as it is: after each row, or (`whole`) at every token."""

    def __init__(self, model: nn.Module, rows: Sequence[Sequence[int]], whole: bool = False) -> None:
        self.model, self.first = model, 0 if whole else -1
        self.batches = by_length(rows, len)
        with torch.no_grad():
            self.before = [self._said(batch, {}) for batch in self.batches]

    def _said(self, batch: Sequence[Sequence[int]], weights: Mapping[str, Tensor]) -> Tensor:
        return log_probabilities(self.model, batch, weights)[:, self.first :]

    def divergence(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Mean KL(before || after), nats a token, with some weights replaced; 0 for no rows."""
        parts = [
            (old.exp() * (old - self._said(batch, weights))).sum(-1).flatten()
            for batch, old in zip(self.batches, self.before, strict=True)
        ]
        return torch.cat(parts).mean() if parts else torch.zeros(())
