"""Triton kernel of `heads`: one program a prompt and block of dimensions pools its states and scores them."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as Arg

from .heads import POOLINGS, Heads


def _rolling(
    x: Arg, at: Arg, known: Arg, first: Arg, end: Arg, xs0: Arg, width: Arg, block: tl.constexpr
) -> Arg:
    """The highest mean over `width` tokens in a row, per dimension. Rows seen again come from the cache."""
    best = tl.full((block,), float("-inf"), tl.float32)
    for token in range(first, end - width + 1):
        total = tl.zeros((block,), tl.float32)
        for step in range(0, width):
            total += tl.load(x + (token + step) * xs0 + at, mask=known, other=0.0).to(tl.float32)
        best = tl.maximum(best, total)
    return best / width


def _read(
    x: Arg, starts: Arg, weight: Arg, out: Arg, dims: Arg, heads: Arg, window: Arg, xs0: Arg, xs1: Arg,
    last: tl.constexpr, mean: tl.constexpr, rolling: tl.constexpr,
    bh: tl.constexpr, block: tl.constexpr,
) -> None:  # fmt: skip
    """out [B,blocks,P]: this block's share of every score. last, mean, rolling: a pooling's place, or -1."""
    prompt = tl.program_id(0)
    begin = tl.load(starts + prompt)
    end = tl.load(starts + prompt + 1)
    first = tl.where(end - begin > 1, begin + 1, begin)
    dim = tl.program_id(1) * block + tl.arange(0, block)
    known = dim < dims
    at = dim.to(tl.int64) * xs1
    head = tl.arange(0, bh)
    cells = head[:, None] * dims + dim[None, :]
    there = (head < heads)[:, None] & known[None, :]
    score = tl.zeros((bh,), tl.float32)
    if last >= 0:
        state = tl.load(x + (end - 1) * xs0 + at, mask=known, other=0.0).to(tl.float32)
        w = tl.load(weight + last * heads * dims + cells, mask=there, other=0.0)
        score += tl.sum(w * state[None, :], axis=1)
    if mean >= 0:
        state = tl.zeros((block,), tl.float32)
        for token in range(begin, end):
            state += tl.load(x + token * xs0 + at, mask=known, other=0.0).to(tl.float32)
        state = state / (end - begin)
        w = tl.load(weight + mean * heads * dims + cells, mask=there, other=0.0)
        score += tl.sum(w * state[None, :], axis=1)
    if rolling >= 0:
        state = rolling_kernel(x, at, known, first, end, xs0, tl.minimum(window, end - first), block)
        w = tl.load(weight + rolling * heads * dims + cells, mask=there, other=0.0)
        score += tl.sum(w * state[None, :], axis=1)
    blocks = tl.num_programs(1)
    tl.store(out + (prompt * blocks + tl.program_id(1)) * heads + head, score, mask=head < heads)


rolling_kernel = triton.jit(_rolling)
read_kernel = triton.jit(_read)


def read(x: Tensor, starts: Tensor, heads: Heads) -> Tensor:
    """Return the scores [B,P] (see `heads.read`, which checks). Shares are added in a fixed order."""
    prompts, (_, count, dims) = starts.shape[0] - 1, heads.weight.shape
    block = 128
    blocks = triton.cdiv(dims, block)
    shares = heads.weight.new_empty(prompts, blocks, count)
    if prompts and count:
        place = {name: heads.poolings.index(name) if name in heads.poolings else -1 for name in POOLINGS}
        read_kernel[(prompts, blocks)](
            x, starts.contiguous(), heads.weight.contiguous(), shares, dims, count, heads.window, *x.stride(),
            last=place["last"], mean=place["mean"], rolling=place["max_rolling_mean"],
            bh=triton.next_power_of_2(count), block=block,
        )  # fmt: skip
    return shares.sum(dim=1) + heads.bias
