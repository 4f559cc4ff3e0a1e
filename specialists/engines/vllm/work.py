"""What each layer does in a pass on a CPU: who is steered by what, and which gates are read for it.

It is looked up once from the board's index and used while the batch goes on alike. A GPU's captured graph has
the tables and the index themselves instead (`Board.act`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....kernels.picked import Picked, PickedGates, decide_picked, pick, pick_gates, steer_picked_
from ....kernels.steer import SteerTables
from .sites import Sites

# so many tokens of one row are worth a call of their own
LONG = 16


@dataclass(eq=False)
class Work:
    """The work at one decoder layer in one pass. `kept` [N, D] gets the stream after it, where asked; `done`
    says that it did.
    """

    tables: SteerTables
    gates: list[PickedGates] = field(default_factory=list)
    rounds: list[Picked] = field(default_factory=list)
    kept: Tensor | None = None
    done: bool = False

    def act(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Read the gates, steer hidden [N, D] in place, keep the stream: hidden + residual, where vLLM
        carries the residual apart.
        """
        if self.gates:
            x = _stream(hidden, residual)
            for gates in self.gates:
                decide_picked(x, gates)
        for picked in self.rounds:
            whole = None if picked.shift is not None or residual is None else hidden + residual
            steer_picked_(hidden, self.tables, picked, whole)
        if self.kept is not None:
            if residual is None:
                self.kept.copy_(hidden)
            else:
                torch.add(hidden, residual, out=self.kept)
            self.done = True


def _stream(hidden: Tensor, residual: Tensor | None) -> Tensor:
    return hidden if residual is None else hidden + residual


def work_of(sites: Sites, index: Any, tokens: int, kept: Mapping[int, Tensor]) -> dict[int, Work]:
    """Return {layer: work} of a pass of so many tokens, by the board's index [layers, rounds, N]; `kept`
    {layer: [N, D]} gets the streams.
    """
    work: dict[int, Work] = {}
    for layer, at in sites.numbers.items():
        for turn in range(sites.of[layer].turns):
            rows = index[at, turn, :tokens]
            if rows.any():
                _round(sites, work, layer, rows)
    for layer, states in kept.items():
        _at(sites, work, layer).kept = states
    return work


def _at(sites: Sites, work: dict[int, Work], layer: int) -> Work:
    return work.setdefault(layer, Work(sites.of[layer].tables))


def _round(sites: Sites, work: dict[int, Work], layer: int, rows: Any) -> None:
    """One round at one layer. A prompt's tokens, which lie together and share a row, are steered by one row;
    the others in one go, those that wait for gates of one layer side by side.
    """
    places = np.flatnonzero(rows)
    edges = np.flatnonzero((np.diff(places) > 1) | (np.diff(rows[places]) != 0)) + 1
    runs = np.split(places, edges)
    long = [run for run in runs if len(run) >= LONG]
    for run in long:
        _pick(sites, work, layer, slice(int(run[0]), int(run[-1]) + 1), rows[run[:1]], len(run))
    single = np.concatenate([run for run in runs if len(run) < LONG]) if len(long) < len(runs) else places[:0]
    if len(single):
        single = single[np.argsort(sites.of[layer].gated[rows[single]], kind="stable")]
        _pick(sites, work, layer, single, rows[single], len(single))


def _pick(sites: Sites, work: dict[int, Work], layer: int, places: Any, rows: Any, count: int) -> None:
    """Tokens by their rows: as many in the order of their gates' layers, or a slice by one."""
    site, gated = sites.of[layer], sites.of[layer].gated[rows]
    chosen, verdicts = torch.from_numpy(rows), None
    if gated[-1] >= 0:
        verdicts = torch.ones(count, dtype=torch.bool)
        for gate in np.unique(gated[gated >= 0]).tolist():
            first, end = np.searchsorted(gated, [gate, gate + 1]).tolist()
            probes, part = site.tables.gate[chosen[first:end]], slice(first, end)
            if isinstance(places, slice):
                read = pick_gates(sites.of[gate].gates, places, probes, verdicts)
            else:
                read = pick_gates(sites.of[gate].gates, _together(places[part]), probes, verdicts[part])
            _at(sites, work, gate).gates.append(read)
    where = places if isinstance(places, slice) else _together(places)
    _at(sites, work, layer).rounds.append(pick(site.tables, where, chosen, verdicts))


def _together(places: Any) -> Tensor | slice:
    """The places, as a slice where they lie side by side in order."""
    if len(places) == 1 or bool((np.diff(places) == 1).all()):
        return slice(int(places[0]), int(places[-1]) + 1)
    return torch.from_numpy(places)
