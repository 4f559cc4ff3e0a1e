"""Triton kernels of `sae`: encoders with their activation in the matrix product, and a gathering decoder.

Sums are float32 whatever the weights are. The top-k encoder writes the maximum of every group of `GROUP`
latents beside the pre-activations, so that only k groups of each row are read again (see `sae.topk`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Arg

from .dispatch import precision

GROUP = 16


def _encode(
    x: Arg, w: Arg, bias: Arg, threshold: Arg, out: Arg, tops: Arg,
    rows: Arg, width: Arg, latents: Arg, xs0: Arg, xs1: Arg, ws0: Arg, ws1: Arg,
    jump: tl.constexpr, group: tl.constexpr, precise: tl.constexpr,
    br: tl.constexpr, bs: tl.constexpr, bd: tl.constexpr,
) -> None:  # fmt: skip
    """out [B,S] = activation(x w + bias); with `group`, tops [B, ceil(S/group)] = the groups' maxima.

    Neighbouring programs share a block of weights, the larger operand, so that it is read from memory once.
    """
    row = tl.program_id(0) * br + tl.arange(0, br)
    col = tl.program_id(1) * bs + tl.arange(0, bs)
    inner = tl.arange(0, bd)
    xp = x + row[:, None].to(tl.int64) * xs0 + inner[None, :] * xs1
    wp = w + inner[:, None].to(tl.int64) * ws0 + col[None, :].to(tl.int64) * ws1
    sums = tl.zeros((br, bs), tl.float32)
    for start in range(0, width, bd):
        within = start + inner < width
        a = tl.load(xp, mask=(row < rows)[:, None] & within[None, :], other=0.0)
        b = tl.load(wp, mask=within[:, None] & (col < latents)[None, :], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=precise)
        xp += bd * xs1
        wp += bd * ws0
    known = col < latents
    sums += tl.load(bias + col, mask=known, other=0.0).to(tl.float32)[None, :]
    if jump:
        bound = tl.load(threshold + col, mask=known, other=0.0).to(tl.float32)
        sums = tl.where(sums > bound[None, :], tl.maximum(sums, 0.0), 0.0)
    at = row[:, None].to(tl.int64) * latents + col[None, :]
    tl.store(out + at, sums.to(out.dtype.element_ty), mask=(row < rows)[:, None] & known[None, :])
    if group > 0:
        closed = tl.where(known[None, :], sums, float("-inf"))
        best = tl.max(tl.reshape(closed, (br, bs // group, group)), axis=2)
        groups = (latents + group - 1) // group
        part = tl.program_id(1) * (bs // group) + tl.arange(0, bs // group)
        here = (row < rows)[:, None] & (part < groups)[None, :]
        to = tops + row[:, None].to(tl.int64) * groups + part[None, :]
        tl.store(to, best.to(tops.dtype.element_ty), mask=here)


def _decode(
    values: Arg, indices: Arg, w: Arg, bias: Arg, out: Arg, width: Arg, latents: Arg,
    vs0: Arg, vs1: Arg, is0: Arg, is1: Arg, ws0: Arg, ws1: Arg, k: Arg, bd: tl.constexpr,
) -> None:  # fmt: skip
    """out[b] = bias + sum_i values[b,i] w[indices[b,i]] for one row and one block of columns."""
    row = tl.program_id(0).to(tl.int64)
    col = tl.program_id(1) * bd + tl.arange(0, bd)
    known = col < width
    sums = tl.load(bias + col, mask=known, other=0.0).to(tl.float32)
    for i in range(0, k):
        index = tl.load(indices + row * is0 + i * is1)
        value = tl.load(values + row * vs0 + i * vs1).to(tl.float32)
        valid = (index >= 0) & (index < latents)
        line = tl.load(w + tl.where(valid, index, 0) * ws0 + col.to(tl.int64) * ws1, mask=known, other=0.0)
        sums += tl.where(valid, value * line.to(tl.float32), float("nan"))
    tl.store(out + row * width + col, sums.to(out.dtype.element_ty), mask=known)


encode_kernel = triton.jit(_encode)
decode_kernel = triton.jit(_decode)


def _run(
    x: Tensor, w_enc: Tensor, b_enc: Tensor, threshold: Tensor | None, group: int
) -> tuple[Tensor, Tensor]:
    """Return out [B,S] and the maxima of its groups (empty without `group`)."""
    (rows, width), latents = x.shape, w_enc.shape[1]
    out = x.new_empty(rows, latents)
    tops = x.new_empty(rows, triton.cdiv(latents, group) if group else 0)
    if rows == 0:
        return out, tops
    few = rows <= 16
    br, bs, bd = (16, 64, 128) if few else (64, 128, 64)
    grid = (triton.cdiv(rows, br), triton.cdiv(latents, bs))
    encode_kernel[grid](
        x, w_enc, b_enc.contiguous(), b_enc if threshold is None else threshold.contiguous(), out, tops,
        rows, width, latents, *x.stride(), *w_enc.stride(),
        jump=threshold is not None, group=group, precise=precision(),
        br=br, bs=bs, bd=bd if x.element_size() < 4 else bd // 2, num_warps=4 if few else 8,
    )  # fmt: skip
    return out, tops


def encode_jumprelu(x: Tensor, w_enc: Tensor, b_enc: Tensor, threshold: Tensor) -> Tensor:
    """Return the latents [B,S] (see `sae.encode_jumprelu`, which checks the arguments)."""
    return _run(x, w_enc, b_enc, threshold, 0)[0]


def encode_topk(x: Tensor, w_enc: Tensor, b_enc: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest pre-activations and where they are, [B,k] (see `sae.encode_topk`)."""
    groups = triton.cdiv(w_enc.shape[1], GROUP)
    if groups <= 2 * k:
        values, indices = _run(x, w_enc, b_enc, None, 0)[0].topk(k, dim=1)
        return values, indices
    pre, tops = _run(x, w_enc, b_enc, None, GROUP)
    best = tops.topk(k, dim=1, sorted=False).indices
    members = (best[:, :, None] * GROUP + torch.arange(GROUP, device=x.device)).flatten(1)
    found = pre.gather(1, members.clamp_max(pre.shape[1] - 1))
    values, at = found.masked_fill_(members >= pre.shape[1], float("-inf")).topk(k, dim=1)
    return values, members.gather(1, at)


def decode_topk(values: Tensor, indices: Tensor, w_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Return the reconstruction [B,D] (see `sae.decode_topk`, which checks the arguments)."""
    (rows, k), (latents, width) = values.shape, w_dec.shape
    out = w_dec.new_empty(rows, width)
    if rows:
        block = 256
        decode_kernel[(rows, triton.cdiv(width, block))](
            values, indices, w_dec, b_dec.contiguous(), out, width, latents,
            *values.stride(), *indices.stride(), *w_dec.stride(), k, bd=block,
        )  # fmt: skip
    return out
