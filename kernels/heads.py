"""Many linear heads over the pooled states of many prompts, in one pass over the states.

score[b,p] = bias[p] + sum_k weight[k,p] . pooling_k(states of prompt b). Prompts lie one after another in
x [T,D]; prompt b has the tokens starts[b] to starts[b+1] - 1. Poolings, per dimension: the `last` token; the
`mean` over all; `max_rolling_mean`, the highest mean over any `window` tokens in a row, which leaves out
token 0 where there are others (as an attention sink its norm would drown the rest) and takes a prompt shorter
than the window as one window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from .checks import FLOATS, INDEX, expect
from .dispatch import Backend, choose

POOLINGS: Final = ("last", "mean", "max_rolling_mean")


@dataclass(frozen=True, eq=False)
class Heads:
    """weight [K,P,D] and bias [P], float32: P heads over the K `poolings`, all different."""

    weight: Tensor
    bias: Tensor
    poolings: tuple[str, ...] = ("last",)
    window: int = 8

    def __post_init__(self) -> None:
        expect("weight", self.weight, (len(self.poolings), "P", "D"), (torch.float32,), "one [P,D] a pooling")
        expect("bias", self.bias, self.weight.shape[1:2], (torch.float32,))
        known = set(self.poolings) <= set(POOLINGS) and len(set(self.poolings)) == len(self.poolings)
        if not known or not self.poolings or self.window < 1:
            raise ValueError(
                f"poolings {self.poolings}, window {self.window}: name some of {', '.join(POOLINGS)}, each "
                "once, and a window of at least 1 token"
            )


def read(x: Tensor, starts: Tensor, heads: Heads, backend: Backend = "auto") -> Tensor:
    """Return the scores [B,P] float32 of prompts lying in x [T,D], starts [B+1] int64.

    starts begins with 0, ends with T and rises by at least 1 a prompt: on a CPU that is checked, on a GPU the
    caller vouches for it. Raises ValueError when shapes, types or starts do not fit.
    """
    expect("x", x, ("T", heads.weight.shape[2]), FLOATS, "heads read the width they were fitted on")
    expect("starts", starts, ("B+1",), INDEX, "the first token of each prompt, and the end")
    path = choose(backend, x, starts, heads.weight, heads.bias)
    if starts.device.type == "cpu":
        _check_starts(starts.tolist(), x.shape[0])
    if path == "triton":
        from . import heads_triton

        return heads_triton.read(x, starts, heads)
    pool = _plain if path == "plain" else _fast
    bounds = starts.tolist()
    prompts = [x[first:end].float() for first, end in pairwise(bounds)]
    pooled = [torch.stack([pool(name, one, heads.window) for name in heads.poolings]) for one in prompts]
    if not pooled:
        return heads.bias.new_zeros(0, heads.bias.shape[0])
    if path == "plain":
        return torch.einsum("bkd,kpd->bp", torch.stack(pooled), heads.weight) + heads.bias
    flat = heads.weight.transpose(0, 1).flatten(1)  # a view where there is one pooling
    return torch.addmm(heads.bias, torch.stack(pooled).flatten(1), flat.T)


def _check_starts(bounds: Sequence[int], tokens: int) -> None:
    rises = all(first < end for first, end in pairwise(bounds))
    if not bounds or bounds[0] != 0 or bounds[-1] != tokens or not rises:
        raise ValueError(
            f"starts {list(bounds)[:8]} for {tokens} tokens: it must begin with 0, end with {tokens} and "
            "rise by at least 1 a prompt"
        )


def _body(x: Tensor) -> Tensor:
    """The tokens that `max_rolling_mean` sees."""
    return x[1:] if x.shape[0] > 1 else x


def _plain(name: str, x: Tensor, window: int) -> Tensor:
    """One pooling of one prompt, x [T,D] float32 -> [D]."""
    if name == "last":
        return x[-1]
    if name == "mean":
        return x.mean(dim=0)
    rows = _body(x)
    width = min(window, rows.shape[0])
    return rows.unfold(0, width, 1).mean(dim=2).amax(dim=0)


def _fast(name: str, x: Tensor, window: int) -> Tensor:
    if name != "max_rolling_mean":
        return _plain(name, x, window)
    rows = _body(x)
    width = min(window, rows.shape[0])
    return rolling_sum(rows, width).amax(dim=0) / width


def rolling_sum(x: Tensor, width: int) -> Tensor:
    """Return the sum of every `width` rows in a row: x [T,D] -> [T - width + 1, D].

    By doubling: log2(width) additions of whole matrices, instead of `width` for every row. Raises ValueError
    where width is not within 1 and T.
    """
    if not 1 <= width <= x.shape[0]:
        raise ValueError(f"a width of {width} for {x.shape[0]} rows: it must be within 1 and the rows")
    count = x.shape[0] - width + 1
    total: Tensor | None = None
    at, size, sums = 0, 1, x
    while True:
        if width & size:
            part = sums[at : at + count]
            total = part if total is None else total + part
            at += size
        if 2 * size > width:
            break
        sums = sums[:-size] + sums[size:]
        size *= 2
    assert total is not None
    return total
