"""The plan of one pass over several rows: whose tokens lie where, which adapter and which steering act on
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...router.steer.vector import Gate
from ..adapters import AdapterBank, Mixture
from .instruments import Gates, Layer, Push
from .row import HeadSet, Row


@dataclass(frozen=True, eq=False)
class Span:
    """`count` tokens of a row in a pass: from flat place `at`, and from the row's own position `first`."""

    row: Row
    at: int
    first: int
    count: int
    draws: bool

    @property
    def prompt(self) -> int:
        """How many of the tokens are prompt; the others are generation."""
        return min(max(self.row.boundary - self.first, 0), self.count)

    @property
    def asked(self) -> int | None:
        """The flat place of the prompt's last token, where this pass reads it."""
        ahead = self.row.boundary - 1 - self.first
        return self.at + ahead if 0 <= ahead < self.count else None

    def places(self, scope: str) -> range:
        """The flat places that steering of this scope acts on."""
        cut, end = self.at + self.prompt, self.at + self.count
        return range(cut if scope == "generation" else self.at, cut if scope == "prompt" else end)


def spans_of(work: Sequence[tuple[Row, int]]) -> list[Span]:
    """Lay rows' next tokens end to end."""
    spans, at = [], 0
    for row, count in work:
        spans.append(Span(row, at, row.cache.length, count, count == row.unread))
        at += count
    return spans


class _Act(NamedTuple):
    """A vector's table row over places; `gate` is the first of its gate answers, 0 without a gate."""

    places: range
    row: int
    gate: int


class Plan:
    """What a pass does beside the model's own arithmetic.

    `only` names the adapter that acts on all tokens, or `mixed` gives several with their flat places; `work`
    {layer: work}, with `gates` gate answers in all.
    """

    def __init__(self, spans: Sequence[Span], device: torch.device) -> None:
        self.device, self.gates = device, 0
        self.total = sum(span.count for span in spans)
        self.work: dict[int, Layer] = {}
        adapters: dict[str, list[int]] = {}
        acts: dict[tuple[int, int], list[_Act]] = {}
        gated: dict[int, list[tuple[range, Gate, int]]] = {}
        for span in spans:
            self._steer(span, acts, gated)
            if span.row.adapter is not None and span.prompt < span.count:
                adapters.setdefault(span.row.adapter, []).extend(span.places("generation"))
            for layer in (*span.row.request.taps, *(head.layer for head in span.row.request.heads)):
                self._at(layer).keep = True
        for (layer, _), entries in sorted(acts.items(), key=lambda item: item[0]):
            self._at(layer).pushes.append(self._push(entries))
        for layer, found in gated.items():
            self._at(layer).gates = self._gates(found)
        whole = [name for name, places in adapters.items() if len(places) == self.total]
        self.only = whole[0] if whole else None
        self.mixed = [] if whole else list(adapters.items())
        self.mixture: Mixture | None = None

    def acting(self, bank: AdapterBank) -> AbstractContextManager[Any]:
        """Let this pass's adapters act inside."""
        if self.only is not None:
            return bank.active(self.only)
        if not self.mixed:
            return nullcontext()
        if self.mixture is None:
            self.mixture = bank.mixture(self.mixed, self.total)
        return bank.active_tokens(self.mixture)

    def _at(self, layer: int) -> Layer:
        return self.work.setdefault(layer, Layer())

    def _index(self, places: Sequence[int]) -> Tensor:
        return torch.tensor(places, dtype=torch.long, device=self.device)

    def _steer(
        self,
        span: Span,
        acts: dict[tuple[int, int], list[_Act]],
        gated: dict[int, list[tuple[range, Gate, int]]],
    ) -> None:
        """Several vectors of one row at one layer act one after another: in rounds, each row once a round."""
        rounds: dict[int, int] = {}
        for slot in span.row.slots:
            vector, places, first = slot.vector, span.places(slot.vector.scope), 0
            if not places:
                continue
            if vector.gate is not None:
                first = self.gates + 1
                self.gates += len(places)
                gated.setdefault(vector.gate.layer, []).append((places, vector.gate, first))
            turn = rounds.get(vector.layer, 0)
            rounds[vector.layer] = turn + 1
            acts.setdefault((vector.layer, turn), []).append(_Act(places, slot.row, first))

    def _push(self, acts: Sequence[_Act]) -> Push:
        tokens = [place for act in acts for place in act.places]
        slots = [act.row for act in acts for _ in act.places]
        gates = [act.gate and act.gate + i for act in acts for i in range(len(act.places))]
        every = tokens == list(range(self.total))
        gated = self._index(gates) if any(gates) else None
        return Push(None if every else self._index(tokens), self._index(slots), gated)

    def _gates(self, found: Sequence[tuple[range, Gate, int]]) -> Gates:
        weights = torch.cat([gate.weight.expand(len(places), -1) for places, gate, _ in found])
        least = [gate.threshold - gate.bias for places, gate, _ in found for _ in places]
        tokens = [place for places, _, _ in found for place in places]
        answers = [first + i for places, _, first in found for i in range(len(places))]
        least_of = torch.tensor(least, dtype=torch.float, device=self.device)
        return Gates(self._index(tokens), weights.to(self.device), least_of, self._index(answers))


class Reading(NamedTuple):
    """A set of heads that is read at flat `places`, for the spans of these indices."""

    heads: HeadSet
    spans: list[int]
    places: list[int]


def readings(spans: Sequence[Span], *, asking: bool) -> list[Reading]:
    """Return what is read for the answering heads of spans that draw, or for the asking heads of spans that
    hold their prompt's last token. Rows with the same heads are read in one product.
    """
    alike: dict[tuple[int, ...], Reading] = {}
    for index, span in enumerate(spans):
        heads = span.row.asking if asking else span.row.answering
        place = span.asked if asking else span.at + span.count - 1
        if heads is not None and place is not None and (asking or span.draws):
            members = alike.setdefault(heads.key, Reading(heads, [], []))
            members.spans.append(index)
            members.places.append(place)
    return list(alike.values())


def read_heads(spans: Sequence[Span], seen: dict[int, Tensor], *, asking: bool) -> dict[int, list[float]]:
    """Return {index of span: logits} of `readings` in kept states {layer: [N, D]}."""
    found: dict[int, list[float]] = {}
    for heads, members, places in readings(spans, asking=asking):
        found.update(zip(members, heads.logits(seen, places), strict=True))
    return found
