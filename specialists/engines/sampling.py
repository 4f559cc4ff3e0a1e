"""Draw a token from logits: the same number for the same seed and place, whatever the neighbours do.

Engines in other languages draw alike: `uniform` is integer arithmetic only, and `draw` walks the kept tokens
in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from .base import Sampling

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


def uniform(seed: int, index: int) -> float:
    """Return the number in [0, 1) that draws token `index` (0 for the first) of a request with this seed.

    SplitMix64 (Steele, Lea and Flood, 2014) as a counter: mix(mix(seed) + (index + 1) * 0x9E3779B97F4A7C15),
    all modulo 2^64, its upper 53 bits over 2^53. Negative seeds count as seed modulo 2^64.
    """
    return (_mix(_mix(seed & _MASK) + (index + 1) * _STEP) >> 11) / (1 << 53)


def _mix(z: int) -> int:
    z &= _MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def draw(logits: Tensor, sampling: Sampling, index: int, seen: Collection[int] = ()) -> int:
    """Return token `index` of an answer, drawn from logits [V]; `seen` are the tokens of prompt and answer so
    far.
    """
    logits = logits.float().cpu()
    if sampling.repetition != 1.0 and seen:
        logits = penalised(logits, sampling.repetition, seen)
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    exact = logits.double()
    if sampling.temperature != 1.0:
        exact = exact / sampling.temperature
    weights = kept(torch.softmax(exact, -1), sampling)
    sums = weights.cumsum(-1).numpy()
    place = int(sums.searchsorted(uniform(sampling.seed, index) * sums[-1], side="right"))
    # a last sum that was rounded down may be passed: the last token that can be drawn is meant then
    return place if place < len(sums) else int(weights.nonzero()[-1])


def penalised(logits: Tensor, repetition: float, seen: Collection[int]) -> Tensor:
    """Return logits [V] with those of the tokens `seen` weakened."""
    at = torch.tensor(sorted(set(seen)))
    found = logits[at]
    return logits.index_copy(0, at, torch.where(found > 0, found / repetition, found * repetition))


def kept(weights: Tensor, sampling: Sampling) -> Tensor:
    """Return probabilities [V] with those that top_k and then top_p leave out set to 0.

    `top_p` keeps the fewest likeliest tokens whose sum reaches it (Holtzman et al., 2020); ties go to the
    lower token.
    """
    if sampling.top_k == 0 and sampling.top_p == 1.0:
        return weights
    order = torch.sort(weights, descending=True, stable=True)
    best, places = order.values, order.indices
    if 0 < sampling.top_k < best.numel():
        best, places = best[: sampling.top_k], places[: sampling.top_k]
    before = best.cumsum(-1) - best
    chosen = places[before < sampling.top_p * best.sum()]
    return torch.zeros_like(weights).index_copy(0, chosen, weights[chosen])
