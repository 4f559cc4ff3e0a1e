"""Products of low rank, one for each token: y[n] += scale[row] * up[row]^T (down[row] x[n] + offset[row]).

One piece serves three uses. Adapters: x is what enters a linear layer, y what leaves it, a row is a request's
adapter. Steering: x = y is the residual stream. Representation fine-tuning (Wu et al., 'ReFT' (2024), eq. 2),
y + R^T (W x + b - R x): down = W - R, offset = b, up = R. As in `steer`, tables persist and row 0 is zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import FLOATS, INDEX, expect, own_memory, same_dtype
from .dispatch import Backend, choose


@dataclass(frozen=True, eq=False)
class LowRank:
    """down [R,r,D], up [R,r,O], offset [R,r], scale [R]; scale is float32, the rest of one float type.

    r is the largest rank; products of smaller rank are filled up with zeros. Row 0 stays zeros.
    """

    down: Tensor
    up: Tensor
    offset: Tensor
    scale: Tensor

    @classmethod
    def empty(
        cls,
        rows: int,
        rank: int,
        width: int,
        out: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> LowRank:
        """Return tables of `rows` products (row 0 included) of rank up to `rank`, from `width` to `out`.

        Raises ValueError where one of the four is below 1.
        """
        if min(rows, rank, width, out) < 1:
            raise ValueError(
                f"tables of {rows} rows, rank {rank}, {width} to {out}: all of them must be at least 1"
            )
        shapes = ((rows, rank, width), (rows, rank, out), (rows, rank))
        down, up, offset = (torch.zeros(*shape, device=device, dtype=dtype) for shape in shapes)
        return cls(down, up, offset, torch.zeros(rows, device=device))

    def put(
        self, row: int, down: Tensor, up: Tensor, scale: float = 1.0, offset: Tensor | None = None
    ) -> None:
        """Write down [q,D] and up [q,O] (an adapter's A, and its B transposed), q <= r, into `row`, in place.

        Raises ValueError for row 0, another width, a rank above r, and numbers that are not finite.
        """
        rows, rank, width = self.down.shape
        if not 0 < row < rows:
            raise ValueError(f"row {row}: tables have rows 1 to {rows - 1} to fill; 0 stays zero")
        expect("down", down, ("q", width), FLOATS, "a product fits one layer")
        expect("up", up, (down.shape[0], self.up.shape[2]), FLOATS, "transpose an adapter's B")
        if not 1 <= down.shape[0] <= rank:
            raise ValueError(f"the product has rank {down.shape[0]}; these tables hold ranks 1 to {rank}")
        shift = torch.zeros(down.shape[0]) if offset is None else expect("offset", offset, down.shape[:1])
        if not all(bool(torch.isfinite(one).all()) for one in (down, up, shift)):
            raise ValueError("the product holds numbers that are not finite; make it again")
        self.clear(row)
        for table, value in ((self.down, down), (self.up, up), (self.offset, shift)):
            table[row, : down.shape[0]] = value.to(table)
        self.scale[row] = scale

    def clear(self, row: int) -> None:
        """Make `row` zeros again."""
        for table in (self.down, self.up, self.offset, self.scale):
            table[row] = 0


def add_lowrank(y: Tensor, x: Tensor, tables: LowRank, rows: Tensor, backend: Backend = "auto") -> Tensor:
    """Return y [N,O] with each token's product of x [N,D] added; rows [N] int64.

    Sums are float32, the result has y's type. Tokens whose row is 0 come back bit-equal. Raises ValueError
    when shapes or types do not fit.
    """
    path = _checked(y, x, tables, rows, backend)
    if path == "plain":
        return _gathered(y, x, tables, rows)
    return _written(y.clone(), x, tables, rows, path)


def add_lowrank_(y: Tensor, x: Tensor, tables: LowRank, rows: Tensor, backend: Backend = "auto") -> Tensor:
    """Do as `add_lowrank` does, in place; return y. x may be y. Raises also when rows of y share memory."""
    own_memory("y", y)
    path = _checked(y, x, tables, rows, backend)
    if path == "plain":
        return y.copy_(_gathered(y, x, tables, rows))
    return _written(y, x, tables, rows, path)


def _checked(y: Tensor, x: Tensor, tables: LowRank, rows: Tensor, backend: Backend) -> str:
    expect("x", x, ("N", tables.down.shape[2]), FLOATS, "flatten batch and tokens; the width is the layer's")
    expect("y", y, (x.shape[0], tables.up.shape[2]))
    expect("rows", rows, x.shape[:1], INDEX, "one row a token")
    same_dtype(x=x, y=y)
    return choose(backend, x, y, rows, tables.down, traceable=False)


def _gathered(y: Tensor, x: Tensor, tables: LowRank, rows: Tensor) -> Tensor:
    """Every token with a copy of its own product: simple, static shapes, N copies of the weights."""
    down, up = tables.down[rows].float(), tables.up[rows].float()
    inner = torch.einsum("nd,nrd->nr", x.float(), down) + tables.offset[rows].float()
    delta = torch.einsum("nr,nro->no", inner, up) * tables.scale[rows][:, None]
    return torch.where((rows > 0)[:, None], (y.float() + delta).to(y.dtype), y)


def _written(y: Tensor, x: Tensor, tables: LowRank, rows: Tensor, path: str) -> Tensor:
    if path == "triton":
        from . import lowrank_triton

        return lowrank_triton.add_lowrank_(y, x, tables, rows)
    for row, at in _groups(rows):
        inner = x[at].float() @ tables.down[row].float().T + tables.offset[row].float()
        y[at] = (y[at].float() + (inner @ tables.up[row].float()) * tables.scale[row]).to(y.dtype)
    return y


def _groups(rows: Tensor) -> list[tuple[int, Tensor | slice]]:
    """Return the tokens of each row but 0; neighbours as a slice, which copies nothing."""
    order = rows.argsort(stable=True)
    ordered = rows[order]
    kinds, counts = torch.unique_consecutive(ordered, return_counts=True)
    groups: list[tuple[int, Tensor | slice]] = []
    for row, at in zip(kinds.tolist(), torch.split(order, counts.tolist()), strict=True):
        first, last = int(at[0]), int(at[-1])
        together = last - first + 1 == len(at)
        if row:
            groups.append((row, slice(first, last + 1) if together else at))
    return groups
