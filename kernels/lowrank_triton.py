"""Triton kernels of `lowrank`: tokens grouped by row, one product down to the rank and one up again.

Tokens are sorted by their row, and a program takes one tile of one row's tokens; where a row has no such tile
the program ends. So the weights of a row are read once for every tile that uses them, nothing waits for the
host, and one token a row (decoding) and long runs of one row (prefill) are the same code. Chen et al.,
'Punica: Multi-Tenant LoRA Serving' (2023) group tokens alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Arg

from .dispatch import precision

if TYPE_CHECKING:
    from .lowrank import LowRank

TILE = 16


def _shrink(
    x: Arg, down: Arg, offset: Arg, inner: Arg, order: Arg, starts: Arg,
    width: Arg, rank: Arg, xs0: Arg, xs1: Arg,
    precise: tl.constexpr, bn: tl.constexpr, br: tl.constexpr, bd: tl.constexpr,
) -> None:  # fmt: skip
    """inner [N,r] = down[row] x + offset, for one tile of the tokens of one row."""
    row = tl.program_id(1).to(tl.int64) + 1
    first = tl.load(starts + row) + tl.program_id(0) * bn
    last = tl.load(starts + row + 1)
    if first >= last:
        return
    place = first + tl.arange(0, bn)
    token = tl.load(order + place, mask=place < last, other=0)
    r = tl.arange(0, br)
    col = tl.arange(0, bd)
    sums = tl.zeros((bn, br), tl.float32)
    for start in range(0, width, bd):
        within = start + col < width
        a = tl.load(
            x + token[:, None] * xs0 + (start + col)[None, :] * xs1,
            mask=(place < last)[:, None] & within[None, :],
            other=0.0,
        )
        b = tl.load(
            down + (row * rank + r[None, :]) * width + (start + col)[:, None],
            mask=within[:, None] & (r < rank)[None, :],
            other=0.0,
        )
        sums = tl.dot(a, b.to(a.dtype), sums, input_precision=precise)
    shift = tl.load(offset + row * rank + r, mask=r < rank, other=0.0).to(tl.float32)
    known = (place < last)[:, None] & (r < rank)[None, :]
    tl.store(inner + token[:, None] * rank + r[None, :], sums + shift[None, :], mask=known)


def _expand(
    inner: Arg, up: Arg, scale: Arg, y: Arg, order: Arg, starts: Arg,
    out: Arg, rank: Arg, ys0: Arg, ys1: Arg,
    precise: tl.constexpr, bn: tl.constexpr, br: tl.constexpr, bo: tl.constexpr,
) -> None:  # fmt: skip
    """y [N,O] += scale[row] * inner up[row], for one tile of one row's tokens and one block of columns."""
    row = tl.program_id(1).to(tl.int64) + 1
    first = tl.load(starts + row) + tl.program_id(0) * bn
    last = tl.load(starts + row + 1)
    if first >= last:
        return
    place = first + tl.arange(0, bn)
    token = tl.load(order + place, mask=place < last, other=0)
    r = tl.arange(0, br)
    col = tl.program_id(2) * bo + tl.arange(0, bo)
    known = (place < last)[:, None] & (r < rank)[None, :]
    a = tl.load(inner + token[:, None] * rank + r[None, :], mask=known, other=0.0)
    b = tl.load(
        up + (row * rank + r[:, None]) * out + col[None, :],
        mask=(r < rank)[:, None] & (col < out)[None, :],
        other=0.0,
    ).to(tl.float32)
    delta = tl.dot(a, b, input_precision=precise) * tl.load(scale + row)
    at = y + token[:, None] * ys0 + col[None, :].to(tl.int64) * ys1
    here = (place < last)[:, None] & (col < out)[None, :]
    before = tl.load(at, mask=here, other=0.0).to(tl.float32)
    tl.store(at, (before + delta).to(y.dtype.element_ty), mask=here)


shrink_kernel = triton.jit(_shrink)
expand_kernel = triton.jit(_expand)


def add_lowrank_(y: Tensor, x: Tensor, tables: LowRank, rows: Tensor) -> Tensor:
    """Add each token's product to y [N,O] in place; return it. `lowrank.add_lowrank_` checks."""
    count, rank, width = tables.down.shape
    tokens, out = y.shape
    if not tokens or count < 2:
        return y
    ordered, order = rows.sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(count + 1, device=rows.device))
    inner = torch.empty(tokens, rank, device=x.device)
    tiles, br = triton.cdiv(tokens, TILE), max(16, triton.next_power_of_2(rank))
    shrink_kernel[(tiles, count - 1)](
        x, tables.down, tables.offset, inner, order, starts, width, rank, *x.stride(),
        precise=precision(), bn=TILE, br=br, bd=64,
    )  # fmt: skip
    expand_kernel[(tiles, count - 1, triton.cdiv(out, 128))](
        inner, tables.up, tables.scale, y, order, starts, out, rank, *y.stride(),
        precise=precision(), bn=TILE, br=br, bo=128,
    )  # fmt: skip
    return y
