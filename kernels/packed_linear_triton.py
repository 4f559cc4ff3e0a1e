"""Triton kernel of `packed_linear`: planes are unpacked in registers, a product reads only packed bytes."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Arg

from .dispatch import precision
from .packed import Packed


def _codes(
    plane: Arg, top: Arg, row: Arg, col: Arg, known: Arg, bytes0: Arg, bytes1: Arg, bits: tl.constexpr
) -> Arg:
    """The codes of a tile [O,I], int32: fields of `plane` (and for 3 bits of `top`), sign extended."""
    if bits == 3:
        at = plane + row[:, None] * bytes0 + (col // 4)[None, :]
        field = tl.load(at, mask=known, other=0).to(tl.int32) >> ((col % 4) * 2)[None, :] & 3
        at = top + row[:, None] * bytes1 + (col // 8)[None, :]
        sign = tl.load(at, mask=known, other=0).to(tl.int32) >> (col % 8)[None, :] & 1
        return field - 4 * sign
    many: tl.constexpr = 8 // bits
    at = plane + row[:, None] * bytes0 + (col // many)[None, :]
    byte = tl.load(at, mask=known, other=0).to(tl.int32)
    field = byte >> ((col % many) * bits)[None, :] & (2**bits - 1)
    return (field ^ 2 ** (bits - 1)) - 2 ** (bits - 1)


def _linear(
    x: Arg, plane: Arg, top: Arg, scales: Arg, offsets: Arg, y: Arg,
    tokens: Arg, outs: Arg, width: Arg, groups: Arg, bytes0: Arg, bytes1: Arg, xs0: Arg, xs1: Arg,
    bits: tl.constexpr, group: tl.constexpr, shifted: tl.constexpr, single: tl.constexpr,
    precise: tl.constexpr, bn: tl.constexpr, bo: tl.constexpr, bi: tl.constexpr,
) -> None:  # fmt: skip
    """y [N,O] = x W^T for one tile; `single` (one token) multiplies and sums without a matrix product."""
    n = tl.program_id(0) * bn + tl.arange(0, bn)
    row = (tl.program_id(1) * bo + tl.arange(0, bo)).to(tl.int64)
    inner = tl.arange(0, bi)
    line = tl.zeros((bo,), tl.float32)
    tile = tl.zeros((bn, bo), tl.float32)
    for start in range(0, width, bi):
        col = start + inner
        known = (row < outs)[:, None] & (col < width)[None, :]
        at = row[:, None] * groups + (col // group)[None, :]
        w = codes_kernel(plane, top, row, col, known, bytes0, bytes1, bits).to(tl.float32)
        w *= tl.load(scales + at, mask=known, other=0.0)
        if shifted:
            w += tl.load(offsets + at, mask=known, other=0.0)
        if single:
            state = tl.load(x + col * xs1, mask=col < width, other=0.0).to(tl.float32)
            line += tl.sum(w * state[None, :], axis=1)
        else:
            to = x + n[:, None].to(tl.int64) * xs0 + col[None, :] * xs1
            state = tl.load(to, mask=(n < tokens)[:, None] & (col < width)[None, :], other=0.0)
            tile = tl.dot(state, tl.trans(w.to(state.dtype)), tile, input_precision=precise)
    if single:
        tl.store(y + row, line.to(y.dtype.element_ty), mask=row < outs)
    else:
        to = y + n[:, None].to(tl.int64) * outs + row[None, :]
        tl.store(to, tile.to(y.dtype.element_ty), mask=(n < tokens)[:, None] & (row < outs)[None, :])


codes_kernel = triton.jit(_codes)
linear_kernel = triton.jit(_linear)


def linear(x: Tensor, weight: Packed) -> Tensor:
    """Return x [N,I] times the transpose of weight (see `packed_linear.linear`, which checks)."""
    tokens, outs = x.shape[0], weight.shape[0]
    y = x.new_empty(tokens, outs)
    if not tokens:
        return y
    planes = [plane.contiguous() for plane in weight.planes]
    scales = weight.scales.contiguous()
    offsets = scales if weight.offsets is None else weight.offsets.contiguous()
    single = tokens == 1
    bn, bo, bi = (16, 16, 256) if single else (16 if tokens <= 16 else 64, 64, 64)
    linear_kernel[(triton.cdiv(tokens, bn), triton.cdiv(outs, bo))](
        x, planes[0], planes[-1], scales, offsets, y,
        tokens, outs, weight.width, scales.shape[1], planes[0].shape[1], planes[-1].shape[1], *x.stride(),
        bits=weight.bits, group=weight.group, shifted=weight.offsets is not None, single=single,
        precise=precision(), bn=bn, bo=bo, bi=bi,
    )  # fmt: skip
    return y
