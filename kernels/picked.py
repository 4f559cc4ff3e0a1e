"""Steering of tokens that are known before the pass: what their rows hold is gathered once.

`steer_` and `decide` find out at every call which tokens have a row, what it holds and which gates it waits
for. A batch that goes on by one token each is steered alike for many passes: `pick` and `pick_gates` look it
up once, and a pass does the arithmetic alone. For engines that keep their plan on the host (a CPU): a
captured graph needs the tables themselves. What is picked holds until its rows are written anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import INDEX, expect
from .gates import Gates
from .steer import SteerTables, moved


@dataclass(frozen=True, eq=False)
class Picked:
    """One round of steering: token `at[i]` by table row `rows[i]`, both [K] int64, if `open[i]`.

    `at` None stands for all tokens in order. `shift` [K,D] is what the rows add, None where that hangs on the
    state. `open` [K,1] bool are the verdicts of gates, None where nothing is gated.
    """

    at: Tensor | None
    rows: Tensor
    shift: Tensor | None
    open: Tensor | None


@dataclass(frozen=True, eq=False)
class PickedGates:
    """Gates read at one layer: is x . weight[i] at least `least[i]` at token `at[i]`? The answers go to
    `verdicts` [K] bool. weight [K,D] and least [K] are float32; `at` is as in `Picked`.
    """

    at: Tensor | None
    weight: Tensor
    least: Tensor
    verdicts: Tensor


def pick(tables: SteerTables, at: Tensor | None, rows: Tensor, verdicts: Tensor | None = None) -> Picked:
    """Gather a round: rows [K] of the tokens `at` [K], each once; `verdicts` [K] bool where gates decide.

    Raises ValueError when shapes or types do not fit.
    """
    expect("rows", rows, ("K",), INDEX)
    if at is not None:
        expect("at", at, rows.shape, INDEX, "one row a token")
    if verdicts is not None:
        expect("verdicts", verdicts, rows.shape, (torch.bool,), "one verdict a token")
    shift = tables.shift[rows] if bool(tables.steady[rows].all()) else None
    return Picked(at, rows, shift, None if verdicts is None else verdicts[:, None])


def pick_gates(gates: Gates, at: Tensor | None, probes: Tensor, verdicts: Tensor) -> PickedGates:
    """Gather the gates `probes` [K] of the tokens `at` [K], whose answers go to `verdicts` [K] bool.

    Raises ValueError when shapes or types do not fit.
    """
    expect("probes", probes, ("K",), INDEX)
    expect("verdicts", verdicts, probes.shape, (torch.bool,), "one verdict a probe")
    if at is not None:
        expect("at", at, probes.shape, INDEX, "one probe a token")
    return PickedGates(at, gates.weight[probes], gates.threshold[probes] - gates.bias[probes], verdicts)


def decide_picked(x: Tensor, picked: PickedGates) -> None:
    """Read the gates on x [N,D] and write their verdicts. A score that is not a number opens nothing."""
    here = x if picked.at is None else x.index_select(0, picked.at)
    torch.ge((here * picked.weight).sum(-1), picked.least, out=picked.verdicts)


def steer_picked_(x: Tensor, tables: SteerTables, picked: Picked, stream: Tensor | None = None) -> Tensor:
    """Steer x [N,D] in place as `steer_` does with the same rows; return x. `stream` [N,D] is what readers
    and norms see where x is only a part of it; it is not read where `picked.shift` is given.

    Other tokens, and those whose gate is closed, keep their bits. x is float32 or narrower.
    """
    at = picked.at
    if at is None and picked.shift is not None and picked.open is None:
        return x.add_(picked.shift)
    here = x if at is None else x.index_select(0, at)
    if picked.shift is not None:
        found = here + picked.shift
    else:
        seen = stream if stream is None or at is None else stream.index_select(0, at)
        found = moved(here, tables, picked.rows, seen)
    found = found.to(x.dtype)
    if picked.open is not None:
        found = torch.where(picked.open, found, here)
    return x.copy_(found) if at is None else x.index_copy_(0, at, found)
