"""Steering over persistent tables: x[n] + amount(x[n], row) * vector[row], row 0 meaning untouched.

Tables are written in place and never replaced, so a compiled graph or a captured one keeps pointing at
them; a step only refills a small row index. The forms are those that serving engines use (an additive
vector, a projection) and the clamp of one feature of a sparse autoencoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

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
    for `clamp_feature`. coefficient [R]; kind [R], one of `KINDS`. All float32 but kind (int64).
    """

    vector: Tensor
    reader: Tensor
    reader_bias: Tensor
    reader_threshold: Tensor
    coefficient: Tensor
    kind: Tensor

    @classmethod
    def empty(cls, rows: int, width: int, device: torch.device | str = "cpu") -> SteerTables:
        """Return tables for `rows` interventions (row 0 included) of a model of width D, all untouched."""
        if rows < 1 or width < 1:
            raise ValueError(f"tables of {rows} rows and width {width}: both must be at least 1")

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=device)

        matrices, columns = (zeros(rows, width), zeros(rows, width)), (zeros(rows), zeros(rows), zeros(rows))
        return cls(*matrices, *columns, torch.zeros(rows, dtype=torch.long, device=device))

    def put(
        self,
        row: int,
        kind: str,
        vector: Tensor,
        coefficient: float,
        reader: Tensor | None = None,
        reader_bias: float = 0.0,
        reader_threshold: float = 0.0,
    ) -> None:
        """Write an intervention into `row`, in place.

        With v the vector [D] and c the coefficient: `add` x + c v; `project_out` x - c (x.u) u with
        u = v/|v|; `scale` multiplies the part of x along u by c; `clamp_feature` x + (c - a) v, where
        a = JumpReLU(x.reader + reader_bias) is the feature's activation now. Raises ValueError for row 0, an
        unknown kind, a wrong width, numbers that are not finite, and a zero vector.
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
        _check_vector("vector", vector, width)
        direction = vector.float()
        if kind in ("project_out", "scale"):
            direction = direction / direction.norm()
        measure = direction if reader is None else _check_vector("reader", reader, width).float()
        for table, value in zip(
            (self.coefficient, self.reader_bias, self.reader_threshold, self.kind),
            (coefficient, reader_bias, reader_threshold, KINDS[kind]),
            strict=True,
        ):
            table[row] = value
        self.vector[row] = direction.to(self.vector.device)
        self.reader[row] = measure.to(self.reader.device)

    def clear(self, row: int) -> None:
        """Make `row` untouched again."""
        for table in (self.vector, self.reader, self.reader_bias, self.reader_threshold, self.coefficient):
            table[row] = 0
        self.kind[row] = NONE


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
    measured = (x.float() * tables.reader[rows]).sum(-1) + tables.reader_bias[rows]
    coefficient, kind = tables.coefficient[rows], tables.kind[rows]
    active = torch.where(measured > tables.reader_threshold[rows], measured, torch.zeros_like(measured))
    amount = torch.where(kind == ADD, coefficient, torch.zeros_like(measured))
    amount = torch.where(kind == PROJECT_OUT, -coefficient * measured, amount)
    amount = torch.where(kind == SCALE, (coefficient - 1) * measured, amount)
    return torch.where(kind == CLAMP_FEATURE, coefficient - active, amount)


def steer(x: Tensor, tables: SteerTables, rows: Tensor) -> Tensor:
    """Steer each token by its row: x [N,D], rows [N] int64 -> [N,D] in x's type.

    Tokens whose row is 0 come back bit-equal, whatever they hold (NaN included). The amount is computed in
    float32. Raises ValueError when shapes do not fit. No data-dependent shape: it compiles and captures.
    """
    if x.ndim != 2 or rows.shape != x.shape[:1] or x.shape[1] != tables.vector.shape[1]:
        raise ValueError(
            f"steer got x {list(x.shape)} and rows {list(rows.shape)}; x is [N,{tables.vector.shape[1]}] and "
            "rows [N]; flatten batch and tokens first"
        )
    delta = amounts(x, tables, rows)[:, None] * tables.vector[rows]
    return torch.where((rows > 0)[:, None], (x.float() + delta).to(x.dtype), x)


def gated(rows: Tensor, x: Tensor, weight: Tensor, bias: float, threshold: float) -> Tensor:
    """Keep a token's row only where weight . x + bias >= threshold: rows [N], x [N,D], weight [D] -> [N]."""
    return torch.where(x.float() @ weight.float() + bias >= threshold, rows, torch.zeros_like(rows))
