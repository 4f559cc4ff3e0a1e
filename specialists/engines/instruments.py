"""What the passes of a batch read and change at decoder layers: steering, gates, taps and heads, token by
token.

The hooks stay in place and do nothing outside `during`. Tables hold one row for each vector of each open
request; row 0 stays zero. A pass fills small indices: which tokens, and which table row for each. A token
that no index names keeps its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.steer import SteerTables, steer
from ...router.steer.vector import SteeringVector
from ...router.taps import decoder_layers, stream

FIRST = 8


@dataclass(frozen=True, eq=False)
class Gates:
    """Conditions read at one layer: at token `tokens[i]`, is x . weight[i] at least `least[i]`? The answers
    go to `places` among the answers of all layers; place 0 is always open.
    """

    tokens: Tensor
    weight: Tensor
    least: Tensor
    places: Tensor


@dataclass(frozen=True, eq=False)
class Push:
    """One round of steering at one layer: token `tokens[i]` by table row `slots[i]`, if `open[gates[i]]`.

    `tokens` None means all, in order; `gates` None means that nothing is gated.
    """

    tokens: Tensor | None
    slots: Tensor
    gates: Tensor | None


@dataclass(eq=False)
class Layer:
    """The work at one decoder layer in one pass."""

    gates: Gates | None = None
    pushes: list[Push] = field(default_factory=list)
    keep: bool = False


@dataclass(frozen=True)
class Slot:
    """A vector of an open request: its table row."""

    vector: SteeringVector
    row: int


@dataclass(eq=False)
class _Table:
    tables: SteerTables
    free: list[int]


class Instruments:
    """The hooks and tables of one model. Not thread-safe: one pass at a time."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers: nn.ModuleList | None = None
        self._handles: dict[int, Any] = {}
        self._tables: dict[int, _Table] = {}
        self._now: Mapping[int, Layer] = {}
        self._open = torch.ones(1, dtype=torch.long)
        self.seen: dict[int, Tensor] = {}

    @property
    def layers(self) -> nn.ModuleList:
        """The model's decoder layers. Raises UsageError for a kind without known layers."""
        if self._layers is None:
            self._layers = decoder_layers(self._model)
        return self._layers

    @property
    def in_use(self) -> int:
        """How many table rows open requests hold."""
        return sum(t.tables.kind.numel() - 1 - len(t.free) for t in self._tables.values())

    def close(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles.values():
            handle.remove()
        self._handles, self._tables, self.seen = {}, {}, {}

    # -- tables --------------------------------------------------------------------------------------------

    def take(self, vectors: Sequence[SteeringVector]) -> tuple[Slot, ...]:
        """Write vectors into tables, for a request that opens."""
        slots: list[Slot] = []
        try:
            for vector in vectors:
                slots.append(Slot(vector, self._row(vector)))
        except BaseException:
            self.give(slots)
            raise
        return tuple(slots)

    def give(self, slots: Sequence[Slot]) -> None:
        """Clear the table rows of a request that ended."""
        for slot in slots:
            table = self._tables[slot.vector.layer]
            table.tables.clear(slot.row)
            table.free.append(slot.row)

    def _row(self, vector: SteeringVector) -> int:
        table = self._table(vector.layer, vector.vector.numel())
        if not table.free:
            table.tables, rows = _doubled(table.tables), table.tables.kind.numel()
            table.free = list(range(2 * rows - 1, rows - 1, -1))
        row, reader = table.free.pop(), vector.encoder
        table.tables.put(
            row,
            vector.kind,
            vector.vector,
            vector.coefficient,
            reader.weight if reader else None,
            reader.bias if reader else 0.0,
            reader.threshold if reader else 0.0,
        )
        return row

    def _table(self, layer: int, width: int) -> _Table:
        if layer not in self._tables:
            device = next(self._model.parameters()).device
            tables = SteerTables.empty(FIRST, width, device)
            self._tables[layer] = _Table(tables, list(range(FIRST - 1, 0, -1)))
        return self._tables[layer]

    # -- passes --------------------------------------------------------------------------------------------

    @contextmanager
    def during(self, work: Mapping[int, Layer], gates: int = 0) -> Iterator[None]:
        """Do `work` {layer: work} in the pass inside; `gates` counts all gate answers. `seen` holds the kept
        states [N, D] afterwards.
        """
        for layer in work:
            if layer not in self._handles:
                self._handles[layer] = self.layers[layer].register_forward_hook(self._hook(layer))
        self.seen = {}
        if gates:
            device = next(self._model.parameters()).device
            self._open = torch.ones(gates + 1, dtype=torch.long, device=device)
        self._now = work
        try:
            yield
        finally:
            self._now = {}

    def _hook(self, layer: int) -> Callable[[nn.Module, Any, Any], Any]:
        def act(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            work = self._now.get(layer)
            if work is None:
                return None
            x = stream(output)
            flat = x.reshape(-1, x.shape[-1])
            if work.gates is not None:
                self._read(work.gates, flat)
            for push in work.pushes:
                flat = self._push(layer, push, flat)
            if work.keep:
                self.seen[layer] = flat
            if not work.pushes:
                return None
            steered = flat.reshape(x.shape)
            return (steered, *output[1:]) if isinstance(output, tuple) else steered

        return act

    def _read(self, gates: Gates, flat: Tensor) -> None:
        logits = (flat[gates.tokens].float() * gates.weight).sum(-1)
        self._open[gates.places] = (logits >= gates.least).long()

    def _push(self, layer: int, push: Push, flat: Tensor) -> Tensor:
        slots = push.slots if push.gates is None else push.slots * self._open[push.gates]
        tables = self._tables[layer].tables
        if push.tokens is None:
            return steer(flat, tables, slots)
        return flat.index_copy(0, push.tokens, steer(flat[push.tokens], tables, slots))


def _doubled(old: SteerTables) -> SteerTables:
    rows, width = old.vector.shape
    new = SteerTables.empty(2 * rows, width, old.vector.device)
    for column in fields(old):
        if isinstance(getattr(old, column.name), Tensor):
            getattr(new, column.name)[:rows] = getattr(old, column.name)
    return new
