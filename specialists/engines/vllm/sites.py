"""The tables of a vLLM model's decoder layers, and who uses which of their rows.

Tables persist from before the model is compiled or captured and are only written in place. Row 0 is zeros: a
token that no row names keeps its bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....kernels.gates import Gates
from ....kernels.steer import SteerTables
from ....router.steer.vector import SteeringVector
from ....store.errors import UsageError
from ..base import NotOffered

_numbers = count(1)


@dataclass(frozen=True)
class Settings:
    """What a model has room for: decoder `layers` (None: all), `vectors` at each layer at once, of them
    `rounds` for one request, and `gates` in all. `number` finds the board again from inside a compiled graph.
    """

    layers: tuple[int, ...] | None = None
    vectors: int = 64
    rounds: int = 4
    gates: int = 64
    number: int = field(default_factory=lambda: next(_numbers))

    def plain(self) -> dict[str, Any]:
        """As vLLM's `additional_config` carries it, which is part of what names a compiled graph."""
        return {**vars(self), "layers": None if self.layers is None else list(self.layers)}

    @classmethod
    def of(cls, config: Any) -> Settings | None:
        """Read it back from a `VllmConfig`; None where nobody asked for the plugin."""
        given = config.additional_config
        found = given.get("pilothouse") if isinstance(given, dict) else None
        if found is None:
            return None
        return cls(**{**found, "layers": None if found["layers"] is None else tuple(found["layers"])})


@dataclass(frozen=True)
class Act:
    """One vector of an open request: at `layer`, in round `turn`, by table row `row`. `key` names it."""

    layer: int
    turn: int
    row: int
    scope: str
    key: str


@dataclass(eq=False)
class Site:
    """One decoder layer. `rows` [rounds, N] says which table row steers each token in each round. `kept`
    [N, D] is the residual stream after them, in a captured graph. In the pass under way `turns` rounds have
    work. `gated` [R] is the layer whose gate each table row waits for, -1 where none.
    """

    tables: SteerTables
    gates: Gates
    rows: Tensor
    free: list[int]
    gated: Any
    kept: Tensor | None = None
    turns: int = 0
    used: dict[str, _Used] = field(default_factory=dict)


@dataclass
class _Used:
    """A written row, in use by so many requests; its gate, if any, is probe `probe` of layer `layer`."""

    row: int
    probe: int = 0
    layer: int = -1
    users: int = 0


class Sites:
    """All instrumented layers of one model, for passes of up to N tokens."""

    def __init__(
        self, layers: Sequence[int], width: int, tokens: int, settings: Settings, device: torch.device
    ) -> None:
        self.settings, self.width = settings, width
        self.numbers = {layer: at for at, layer in enumerate(layers)}
        self.rows = torch.zeros(len(layers), settings.rounds, tokens, dtype=torch.long, device=device)
        self.slots = torch.arange(1, tokens + 1, device=device)
        self.every = torch.ones(tokens, dtype=torch.bool, device=device)
        self._probes = list(range(settings.gates, 0, -1))
        first = Gates.empty(settings.gates, tokens, width, device)
        self.of = {
            layer: Site(
                SteerTables.empty(settings.vectors + 1, width, device),
                first.beside() if at else first,
                self.rows[at],
                list(range(settings.vectors, 0, -1)),
                np.full(settings.vectors + 1, -1),
            )
            for layer, at in self.numbers.items()
        }

    @property
    def in_use(self) -> int:
        """How many table rows open requests hold."""
        return sum(used.users > 0 for site in self.of.values() for used in site.used.values())

    def check(self, vectors: Sequence[SteeringVector], layers: Sequence[int]) -> None:
        """Raise NotOffered where a request needs a layer or a round that there is no room for."""
        places = [vector.layer for vector in vectors]
        gates = [vector.gate.layer for vector in vectors if vector.gate is not None]
        for layer in (*places, *gates, *layers):
            if layer not in self.of:
                raise NotOffered(
                    f"layer {layer} is not instrumented in this vLLM engine, which has {sorted(self.of)}: "
                    "open it with layers=..., or use the torch engine"
                )
        most = max((places.count(layer) for layer in set(places)), default=0)
        if most > self.settings.rounds:
            raise NotOffered(
                f"{most} vectors at one layer; this vLLM engine takes {self.settings.rounds} a request: open "
                "it with rounds=..., or leave some out"
            )

    @torch.inference_mode()
    def take(self, vectors: Sequence[SteeringVector]) -> tuple[Act, ...]:
        """Write vectors into tables, for a request that opens; one that is there already is shared.

        Raises UsageError when the tables are full.
        """
        acts: list[Act] = []
        turns: dict[int, int] = {}
        try:
            for vector in vectors:
                turn = turns.get(vector.layer, 0)
                turns[vector.layer] = turn + 1
                row = self._row(self.of[vector.layer], vector)
                acts.append(Act(vector.layer, turn, row, vector.scope, vector.sha256))
        except BaseException:
            self.give(acts)
            raise
        return tuple(acts)

    def _row(self, site: Site, vector: SteeringVector) -> int:
        """A table row that holds the vector, one user more."""
        used = site.used.pop(vector.sha256, None) or self._written(site, vector)
        used.users += 1
        site.used[vector.sha256] = used  # the newest comes last
        return used.row

    def _written(self, site: Site, vector: SteeringVector) -> _Used:
        if not site.free:
            self._free(vector, (site,), lambda used: True)
        if vector.gate is not None and not self._probes:
            self._free(vector, tuple(self.of.values()), lambda used: used.probe > 0)
        used = _Used(site.free.pop())
        if vector.gate is not None:
            used.probe, used.layer = self._probes.pop(), vector.gate.layer
            there, gate = self.of[used.layer], vector.gate
            there.gates.put(used.probe, gate.weight, gate.bias, gate.threshold)
            site.gated[used.row] = used.layer
        reader = vector.encoder
        site.tables.put(
            used.row,
            vector.kind,
            vector.vector,
            vector.coefficient,
            reader.weight if reader else None,
            reader.bias if reader else 0.0,
            reader.threshold if reader else 0.0,
            gate=used.probe,
        )
        return used

    def _free(self, vector: SteeringVector, sites: Sequence[Site], fits: Callable[[_Used], bool]) -> None:
        """Clear what has had no user for longest, of what `fits`."""
        for site in sites:
            for key, used in site.used.items():
                if not used.users and fits(used):
                    self._clear(site, key)
                    return
        raise UsageError(
            f"all {self.settings.vectors} vectors of layer {vector.layer}, or all {self.settings.gates} "
            "gates, are in use: open the engine with more of them"
        )

    def _clear(self, site: Site, key: str) -> None:
        used = site.used.pop(key)
        site.tables.clear(used.row)
        site.free.append(used.row)
        if used.probe:
            self.of[used.layer].gates.mine[used.probe] = False
            site.gated[used.row] = -1
            self._probes.append(used.probe)

    def give(self, acts: Sequence[Act]) -> None:
        """Count a user less of what a request held that ended. It stays written, for the next that asks for
        it, until its row is needed: a row that no token names does nothing.
        """
        for act in acts:
            self.of[act.layer].used[act.key].users -= 1
