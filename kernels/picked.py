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

Places = Tensor | slice


@dataclass(frozen=True, eq=False)
class Picked:
    """One round of steering: token `at[i]` by table row `rows[i]`, both [K] int64, if `open[i]`. `at` may be
    a slice, and `rows` one row [1] for all of it.

    `shift` [K or 1, D] is what the rows add, None where that hangs on the state. `open` [K,1] bool are the
    verdicts of gates, None where nothing is gated.
    """

    at: Places
    rows: Tensor
    shift: Tensor | None
    open: Tensor | None


@dataclass(frozen=True, eq=False)
class PickedGates:
    """Gates read at one layer: is x . weight[i] at least `least[i]` at token `at[i]`? The answers go to
    `verdicts` [K] bool. weight [K,D] and least [K] are float32, or [1,D] and [1] for all of a slice `at`.
    """

    at: Places
    weight: Tensor
    least: Tensor
    verdicts: Tensor


def pick(tables: SteerTables, at: Places, rows: Tensor, verdicts: Tensor | None = None) -> Picked:
    """Gather a round: rows [K] of the tokens `at` [K], each once, or of a slice (then [1] stands for all).
    `verdicts` [K] bool, where gates decide.

    Raises ValueError when shapes or types do not fit.
    """
    expect("rows", rows, ("K",), INDEX)
    if isinstance(at, Tensor):
        expect("at", at, rows.shape, INDEX, "one row a token")
    if verdicts is not None:
        expect("verdicts", verdicts, (_count(at, rows),), (torch.bool,), "one verdict a token")
    shift = tables.shift[rows] if bool(tables.steady[rows].all()) else None
    return Picked(at, rows, shift, None if verdicts is None else verdicts[:, None])


def pick_gates(gates: Gates, at: Places, probes: Tensor, verdicts: Tensor) -> PickedGates:
    """Gather the gates `probes` [K] of the tokens `at` [K], or of a slice (then [1] stands for all), whose
    answers go to `verdicts` [K] bool.

    Raises ValueError when shapes or types do not fit.
    """
    expect("probes", probes, ("K",), INDEX)
    if isinstance(at, Tensor):
        expect("at", at, probes.shape, INDEX, "one probe a token")
    expect("verdicts", verdicts, (_count(at, probes),), (torch.bool,), "one verdict a token")
    return PickedGates(at, gates.weight[probes], gates.threshold[probes] - gates.bias[probes], verdicts)


def _count(at: Places, rows: Tensor) -> int:
    """How many tokens a round has. Raises ValueError where `rows` are neither one nor as many."""
    count = at.stop - at.start if isinstance(at, slice) else rows.shape[0]
    if rows.shape[0] not in (1, count):
        raise ValueError(f"{rows.shape[0]} rows for {count} tokens: it must be one row, or one a token")
    return int(count)


def _at(x: Tensor, at: Places) -> Tensor:
    """The tokens: a view where they lie together, else a copy."""
    return x[at] if isinstance(at, slice) else x.index_select(0, at)


def decide_picked(x: Tensor, picked: PickedGates) -> None:
    """Read the gates on x [N,D] and write their verdicts. A score that is not a number opens nothing."""
    here = _at(x, picked.at)
    torch.ge((here * picked.weight).sum(-1), picked.least, out=picked.verdicts)


def steer_picked_(x: Tensor, tables: SteerTables, picked: Picked, stream: Tensor | None = None) -> Tensor:
    """Steer x [N,D] in place as `steer_` does with the same rows; return x. `stream` [N,D] is what readers
    and norms see where x is only a part of it; it is not read where `picked.shift` is given.

    Other tokens keep their bits, as do those whose gate is closed (where they hold no NaN, which stays one).
    x is float32 or narrower.
    """
    at = picked.at
    here = _at(x, at)
    if picked.shift is not None:
        # -0.0 is what any number keeps its bits under, 0.0 makes one of -0.0
        here.add_(picked.shift if picked.open is None else torch.where(picked.open, picked.shift, -0.0))
    else:
        found = moved(here, tables, picked.rows, None if stream is None else _at(stream, at))
        here.copy_(found if picked.open is None else torch.where(picked.open, found, here))
    return x if isinstance(at, slice) else x.index_copy_(0, at, here)
