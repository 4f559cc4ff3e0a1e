"""Steering over persistent tables: x[n] + amount(x[n], row) * vector[row], row 0 meaning untouched.

Tables are written in place and never replaced, so a compiled graph or a captured one keeps pointing at
them; a step only refills a small row index. The forms are those that serving engines use (an additive
vector, a projection) and the clamp of one feature of a sparse autoencoder; products of low rank are in
`lowrank`. A row may hang on a gate that a probe opens inside the forward pass (`gates`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from .checks import FLOATS, INDEX, expect, own_memory, same_dtype
from .dispatch import Backend, choose
from .gates import Gates, allowed

NONE: Final = 0
ADD: Final = 1
PROJECT_OUT: Final = 2
CLAMP_FEATURE: Final = 3
SCALE: Final = 4
KINDS: Final = {"add": ADD, "project_out": PROJECT_OUT, "clamp_feature": CLAMP_FEATURE, "scale": SCALE}


@dataclass(frozen=True, eq=False)
class SteerTables:
    """The interventions of one layer, one a row; row 0 is all zeros and stays so.

    vector [R,D]: the direction that is added, in proportion to the amount (unit length for `project_out`
    and `scale`). reader [R,D], reader_bias [R], reader_threshold [R]: what measures x; the feature's encoder
    for `clamp_feature`. coefficient [R]; kind [R], one of `KINDS`. relative [R]: 1 where the coefficient
    counts lengths |x| of the token's own state. keep_norm [R]: 1 where the result is brought back to |x|.
    gate [R]: the probe of `Gates` that this row waits for; 0 none. All float32 but kind and gate (int64).
    shift [R,D] and steady [R] bool: what a row adds where that hangs on no state, c v of a plain `add`.
    """

    vector: Tensor
    reader: Tensor
    reader_bias: Tensor
    reader_threshold: Tensor
    coefficient: Tensor
    kind: Tensor
    relative: Tensor
    keep_norm: Tensor
    gate: Tensor
    shift: Tensor
    steady: Tensor

    @classmethod
    def empty(cls, rows: int, width: int, device: torch.device | str = "cpu") -> SteerTables:
        """Return tables for `rows` interventions (row 0 included) of a model of width D, all untouched."""
        if rows < 1 or width < 1:
            raise ValueError(f"tables of {rows} rows and width {width}: both must be at least 1")

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, device=device, dtype=dtype)

        return cls(
            vector=zeros(rows, width),
            reader=zeros(rows, width),
            reader_bias=zeros(rows),
            reader_threshold=zeros(rows),
            coefficient=zeros(rows),
            kind=zeros(rows, dtype=torch.long),
            relative=zeros(rows),
            keep_norm=zeros(rows),
            gate=zeros(rows, dtype=torch.long),
            shift=zeros(rows, width),
            steady=zeros(rows, dtype=torch.bool),
        )

    def put(
        self,
        row: int,
        kind: str,
        vector: Tensor,
        coefficient: float,
        reader: Tensor | None = None,
        reader_bias: float = 0.0,
        reader_threshold: float = 0.0,
        relative: bool = False,
        keep_norm: bool = False,
        gate: int = 0,
    ) -> None:
        """Write an intervention into `row`, in place.

        With v the vector [D] and c the coefficient: `add` x + c v; `project_out` x - c (x.u) u with
        u = v/|v|; `scale` multiplies the part of x along u by c; `clamp_feature` x + (c - a) v, where
        a = JumpReLU(x.reader + reader_bias) is the feature's activation now. `relative` makes `add`
        x + c |x| u; `keep_norm` rescales any result to length |x|; `gate` names the probe of `Gates` that
        lets it act.

        Raises ValueError for row 0, an unknown kind, a wrong width, numbers that are not finite, a zero
        vector, a relative kind other than `add`, and a negative gate.
        """
        width = self.vector.shape[1]
        if not 0 < row < self.vector.shape[0]:
            raise ValueError(
                f"row {row}: tables have rows 1 to {self.vector.shape[0] - 1} to fill; 0 stays zero"
            )
        if kind not in KINDS:
            raise ValueError(f"steering kind {kind!r} is unknown; it is one of {', '.join(KINDS)}")
        if kind == "clamp_feature" and reader is None:
            raise ValueError("clamp_feature needs the feature's encoder as reader; give it")
        if (relative and kind != "add") or gate < 0:
            raise ValueError(
                f"{kind} with relative={relative}, gate={gate}: only add counts in lengths of x, and a gate "
                "is 0 (none) or the number of a probe"
            )
        _check_vector("vector", vector, width)
        direction = vector.float()
        if relative or kind in ("project_out", "scale"):
            direction = direction / direction.norm()
        measure = direction if reader is None else _check_vector("reader", reader, width).float()
        for table, value in zip(
            (*self._columns(), self.kind, self.gate),
            (coefficient, reader_bias, reader_threshold, relative, keep_norm, KINDS[kind], gate),
            strict=True,
        ):
            table[row] = value
        self.vector[row] = direction.to(self.vector.device)
        self.reader[row] = measure.to(self.reader.device)
        self.steady[row] = kind == "add" and not relative and not keep_norm
        self.shift[row] = self.coefficient[row] * self.vector[row]

    def clear(self, row: int) -> None:
        """Make `row` untouched again."""
        for table in vars(self).values():
            table[row] = 0

    def _columns(self) -> tuple[Tensor, ...]:
        """The float32 tables [R], in the order in which `put` fills them."""
        return self.coefficient, self.reader_bias, self.reader_threshold, self.relative, self.keep_norm


def _check_vector(name: str, x: Tensor, width: int) -> Tensor:
    if x.shape != (width,):
        raise ValueError(
            f"{name} has shape {list(x.shape)}; this layer's width is {width}; use its own model's"
        )
    if not bool(torch.isfinite(x).all()) or not bool(x.any()):
        raise ValueError(f"{name} is zero or holds numbers that are not finite; make it again")
    return x


def amounts(x: Tensor, tables: SteerTables, rows: Tensor) -> Tensor:
    """Return how much of its row's vector each token gets: x [N,D], rows [N] -> [N], float32."""
    state = x.float()
    measured = (state * tables.reader[rows]).sum(-1) + tables.reader_bias[rows]
    coefficient, kind = tables.coefficient[rows], tables.kind[rows]
    unit = torch.where(tables.relative[rows] > 0, state.norm(dim=-1), torch.ones_like(measured))
    active = torch.where(measured > tables.reader_threshold[rows], measured, torch.zeros_like(measured))
    amount = torch.where(kind == ADD, coefficient * unit, torch.zeros_like(measured))
    amount = torch.where(kind == PROJECT_OUT, -coefficient * measured, amount)
    amount = torch.where(kind == SCALE, (coefficient - 1) * measured, amount)
    return torch.where(kind == CLAMP_FEATURE, coefficient - active, amount)


def steer(
    x: Tensor,
    tables: SteerTables,
    rows: Tensor,
    gates: Gates | None = None,
    slots: Tensor | None = None,
    stream: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Steer each token by its row: x [N,D], rows [N] int64 -> [N,D] in x's type.

    Tokens whose row is 0 come back bit-equal, whatever they hold (NaN included). The amount is computed in
    float32. With `gates`, a row acts only while its gate of the token's request `slots` [N] int64 is open.
    `stream` [N,D] is the state that readers and norms see where x is only a part of it (engines that carry
    the residual apart). Raises ValueError when shapes or types do not fit. A row or slot outside its table
    is an error on a CPU; on a GPU the caller vouches for it. No data-dependent shape in `plain` and
    `triton`: they compile and capture.
    """
    path = _checked(x, tables, rows, gates, slots, stream, backend)
    if path == "triton":
        from . import steer_triton

        return steer_triton.steer(x, tables, rows, gates, slots, stream, torch.empty_like(x))
    rows = allowed(rows, tables.gate, gates, slots)
    if path == "plain":
        return torch.where((rows > 0)[:, None], moved(x, tables, rows, stream), x)
    return _write(x.clone(), tables, rows, stream)


def steer_(
    x: Tensor,
    tables: SteerTables,
    rows: Tensor,
    gates: Gates | None = None,
    slots: Tensor | None = None,
    stream: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Steer as `steer` does, in place; return x. Tokens at rest are not even read on a CPU.

    Raises ValueError as `steer` does, and when rows of x share memory.
    """
    own_memory("x", x)
    path = _checked(x, tables, rows, gates, slots, stream, backend)
    if path == "triton":
        from . import steer_triton

        return steer_triton.steer(x, tables, rows, gates, slots, stream, x)
    rows = allowed(rows, tables.gate, gates, slots)
    if path == "plain":
        return x.copy_(torch.where((rows > 0)[:, None], moved(x, tables, rows, stream), x))
    return _write(x, tables, rows, stream)


def _checked(
    x: Tensor,
    tables: SteerTables,
    rows: Tensor,
    gates: Gates | None,
    slots: Tensor | None,
    stream: Tensor | None,
    backend: Backend,
) -> str:
    if x.ndim != 2 or rows.shape != x.shape[:1] or x.shape[1] != tables.vector.shape[1]:
        raise ValueError(
            f"steer got x {list(x.shape)} and rows {list(rows.shape)}; x is [N,{tables.vector.shape[1]}] and "
            "rows [N]; flatten batch and tokens first"
        )
    expect("rows", rows, x.shape[:1], INDEX)
    expect("x", x, ("N", "D"), FLOATS)
    given = [x, rows, tables.vector]
    if (gates is None) != (slots is None):
        raise ValueError("steer got gates without slots, or slots without gates; give both or neither")
    if slots is not None:
        given.append(expect("slots", slots, rows.shape, INDEX, "one slot a token"))
    if stream is not None:
        same_dtype(x=x, stream=stream)
        given.append(expect("stream", stream, x.shape))
    return choose(backend, *given, traceable=False)


def moved(x: Tensor, tables: SteerTables, rows: Tensor, stream: Tensor | None) -> Tensor:
    """Steer every token, [N,D] in x's type; what it gives for row 0 is not used."""
    state = (x if stream is None else stream).float()
    target = state + amounts(state, tables, rows)[:, None] * tables.vector[rows]
    length, now = state.norm(dim=-1), target.norm(dim=-1)
    kept = (tables.keep_norm[rows] > 0) & (now > 0)
    target = target * torch.where(kept, length / now, torch.ones_like(now))[:, None]
    if stream is None:
        return target.to(x.dtype)
    # a steady row's own shift, so that a token's bits do not hang on who else is in its batch
    change = torch.where(tables.steady[rows][:, None], tables.shift[rows], target - state)
    return (x.float() + change).to(x.dtype)


def _write(x: Tensor, tables: SteerTables, rows: Tensor, stream: Tensor | None) -> Tensor:
    """Steer only the tokens with a row, in place; where no state decides how far, none is measured."""
    at = rows.nonzero()[:, 0]
    if not at.numel():
        return x
    chosen = rows[at]
    if bool(tables.steady[chosen].all()):
        x[at] = (x[at].float() + tables.shift[chosen]).to(x.dtype)
    else:
        x[at] = moved(x[at], tables, chosen, None if stream is None else stream[at])
    return x


def gated(rows: Tensor, x: Tensor, weight: Tensor, bias: float, threshold: float) -> Tensor:
    """Keep a token's row only where weight . x + bias >= threshold: rows [N], x [N,D], weight [D] -> [N]."""
    return torch.where(x.float() @ weight.float() + bias >= threshold, rows, torch.zeros_like(rows))
