"""What each layer does in a pass on a CPU: who is steered by what, and which gates are read for it.

It is looked up once from the board's index and used while the batch goes on alike. A GPU's captured graph has
the tables and the index themselves instead (`Board.act`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....kernels.picked import Picked, PickedGates, decide_picked, pick, pick_gates, steer_picked_
from ....kernels.steer import SteerTables
from .sites import Sites


@dataclass(eq=False)
class Work:
    """The work at one decoder layer in one pass; `kept` [N, D] is the stream after it, where `keeps` asks."""

    tables: SteerTables
    keeps: bool = False
    gates: list[PickedGates] = field(default_factory=list)
    rounds: list[Picked] = field(default_factory=list)
    kept: Tensor | None = None

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
        if self.keeps:
            self.kept = hidden.clone() if residual is None else hidden + residual


def _stream(hidden: Tensor, residual: Tensor | None) -> Tensor:
    return hidden if residual is None else hidden + residual


def work_of(sites: Sites, index: Any, tokens: int, reads: Iterable[int]) -> dict[int, Work]:
    """Return {layer: work} of a pass of so many tokens, by the board's index [layers, rounds, N]; the layers
    `reads` are kept.
    """
    work: dict[int, Work] = {}
    for layer, at in sites.numbers.items():
        for turn in range(sites.of[layer].turns):
            rows = index[at, turn, :tokens]
            if rows.any():
                _round(sites, work, layer, rows)
    for layer in reads:
        _at(sites, work, layer).keeps = True
    return work


def _at(sites: Sites, work: dict[int, Work], layer: int) -> Work:
    return work.setdefault(layer, Work(sites.of[layer].tables))


def _round(sites: Sites, work: dict[int, Work], layer: int, rows: Any) -> None:
    """One round at one layer: the tokens that wait for gates of one layer lie together."""
    site, places = sites.of[layer], np.flatnonzero(rows)
    gated = site.gated[rows[places]]
    order = np.argsort(gated, kind="stable")
    places, gated = places[order], gated[order]
    chosen, verdicts = torch.from_numpy(rows[places]), None
    if gated[-1] >= 0:
        verdicts = torch.ones(len(places), dtype=torch.bool)
    for gate in np.unique(gated[gated >= 0]).tolist():
        first, end = np.searchsorted(gated, [gate, gate + 1]).tolist()
        assert verdicts is not None
        probes, where = site.tables.gate[chosen[first:end]], _places(places[first:end], len(rows))
        read = pick_gates(sites.of[gate].gates, where, probes, verdicts[first:end])
        _at(sites, work, gate).gates.append(read)
    picked = pick(site.tables, _places(places, len(rows)), chosen, verdicts)
    _at(sites, work, layer).rounds.append(picked)


def _places(places: Any, tokens: int) -> Tensor | None:
    """The places as `Picked` takes them: None for all tokens in order."""
    every = len(places) == tokens and bool((places[1:] > places[:-1]).all())
    return None if every else torch.from_numpy(places)
