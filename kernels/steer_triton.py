"""Triton kernel of `steer`: one program a token; those at rest are copied bit by bit or left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Arg

if TYPE_CHECKING:
    from .gates import Gates
    from .steer import SteerTables


def _amount(
    seen: Arg, length: Arg, row: Arg, threshold: Arg, coefficient: Arg, kind: Arg, relative: Arg
) -> Arg:
    """How much of the vector is added; the numbers of `kind` are those of `steer.KINDS`."""
    strength = tl.load(coefficient + row)
    what = tl.load(kind + row)
    amount = tl.where(what == 1, strength * tl.where(tl.load(relative + row) > 0, length, 1.0), 0.0)
    amount = tl.where(what == 2, -strength * seen, amount)
    amount = tl.where(what == 3, strength - tl.where(seen > tl.load(threshold + row), seen, 0.0), amount)
    return tl.where(what == 4, (strength - 1.0) * seen, amount)


def _steer(
    x: Arg, stream: Arg, out: Arg, rows: Arg, slots: Arg, opened: Arg, gate: Arg,
    vector: Arg, reader: Arg, bias: Arg, threshold: Arg, coefficient: Arg, kind: Arg, relative: Arg,
    keep: Arg, width: Arg, probes: Arg, xs0: Arg, xs1: Arg, ss0: Arg, ss1: Arg, os0: Arg,
    gated: tl.constexpr, apart: tl.constexpr, copies: tl.constexpr, block: tl.constexpr,
) -> None:  # fmt: skip
    """out[token] = x[token] + amount * vector[row]."""
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + token)
    if gated:
        slot = tl.load(slots + token)
        row = tl.where(tl.load(opened + slot * probes + tl.load(gate + row)) != 0, row, 0)
    col = tl.arange(0, block)
    if row == 0:
        if copies:
            for start in range(0, width, block):
                known = start + col < width
                same = tl.load(x + token * xs0 + (start + col) * xs1, mask=known)
                tl.store(out + token * os0 + start + col, same, mask=known)
        return
    measured = tl.zeros((block,), tl.float32)
    square = tl.zeros((block,), tl.float32)
    for start in range(0, width, block):
        known = start + col < width
        s = tl.load(stream + token * ss0 + (start + col) * ss1, mask=known, other=0.0).to(tl.float32)
        measured += s * tl.load(reader + row * width + start + col, mask=known, other=0.0)
        square += s * s
    length = tl.sqrt(tl.sum(square, axis=0))
    seen = tl.sum(measured, axis=0) + tl.load(bias + row)
    amount = amount_kernel(seen, length, row, threshold, coefficient, kind, relative)
    kept = tl.load(keep + row) > 0
    now = length
    if kept:
        square = tl.zeros((block,), tl.float32)
        for start in range(0, width, block):
            known = start + col < width
            s = tl.load(stream + token * ss0 + (start + col) * ss1, mask=known, other=0.0).to(tl.float32)
            moved = s + amount * tl.load(vector + row * width + start + col, mask=known, other=0.0)
            square += moved * moved
        now = tl.sqrt(tl.sum(square, axis=0))
    factor = tl.where(kept & (now > 0), length / now, 1.0)
    for start in range(0, width, block):
        known = start + col < width
        s = tl.load(stream + token * ss0 + (start + col) * ss1, mask=known, other=0.0).to(tl.float32)
        target = (s + amount * tl.load(vector + row * width + start + col, mask=known, other=0.0)) * factor
        if apart:
            part = tl.load(x + token * xs0 + (start + col) * xs1, mask=known, other=0.0).to(tl.float32)
            target = part + (target - s)
        tl.store(out + token * os0 + start + col, target.to(out.dtype.element_ty), mask=known)


amount_kernel = triton.jit(_amount)
steer_kernel = triton.jit(_steer)


def steer(
    x: Tensor,
    tables: SteerTables,
    rows: Tensor,
    gates: Gates | None,
    slots: Tensor | None,
    stream: Tensor | None,
    out: Tensor,
) -> Tensor:
    """Write the steered x [N,D] into out (x itself: in place); return it. `steer.steer` checks."""
    tokens, width = x.shape
    state = x if stream is None else stream
    gated = gates is not None and slots is not None
    # Without gates, pointers that are never followed stand in.
    opened = gates.open.view(torch.uint8) if gates is not None else tables.gate
    if tokens:
        steer_kernel[(tokens,)](
            x, state, out, rows.contiguous(), rows if slots is None else slots.contiguous(), opened,
            tables.gate, tables.vector, tables.reader, tables.reader_bias, tables.reader_threshold,
            tables.coefficient, tables.kind, tables.relative, tables.keep_norm,
            width, opened.shape[-1], *x.stride(), *state.stride(), out.stride(0),
            gated=gated, apart=stream is not None, copies=out is not x,
            block=min(1024, triton.next_power_of_2(width)),
        )  # fmt: skip
    return out
