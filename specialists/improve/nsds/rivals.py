"""What NSDS is compared with: scores of layers from weights or from data, each [L], higher is more sensitive.

As the NSDS repository names them, with its defects mended: LSAQ takes one minus the Jaccard index, LIM the
cosine over the width, EWQ the entropy itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from ....kernels.quant import dequantize, quantize
from ....router.locate.anatomy import Anatomy
from ....router.locate.run import record
from .parts import Parts
from .scores import kurtosis

TOP = 50  # words of LSAQ's sets


def kurtboost(parts: Sequence[Parts]) -> Tensor:
    """Mean kurtosis of a layer's matrices, doubled where the jump from the layer before has |z| > 2."""
    means = torch.tensor([_mean(p, lambda w: float(kurtosis(w.flatten()))) for p in parts])
    jumps = torch.diff(means, prepend=means[:1])
    z = (jumps - jumps.mean()) / jumps.std().clamp_min(1e-12)
    return torch.where(z.abs() > 2, means * 2, means)


def mse(parts: Sequence[Parts]) -> Tensor:
    """Mean over a layer's matrices of the squared error of one symmetric 2-bit scale a matrix."""

    def error(w: Tensor) -> float:
        flat = w.reshape(1, -1)
        return float((flat - dequantize(quantize(flat, 2, flat.shape[1]))).square().mean())

    return torch.tensor([_mean(p, error) for p in parts])


def zd(parts: Sequence[Parts]) -> Tensor:
    """Share of weights more than one standard deviation from the mean (Dumitru et al., 2024), mean over
    matrices.
    """
    return torch.tensor(
        [_mean(p, lambda w: float(((w - w.mean()).abs() > w.std()).float().mean())) for p in parts]
    )


def ewq(parts: Sequence[Parts]) -> Tensor:
    """Entropy of the softmax over all entries of a matrix, averaged by size (entropy-weighted
    quantization).
    """

    def entropy(w: Tensor) -> float:
        logp = w.flatten().double().log_softmax(0)
        return float(-(logp.exp() * logp).sum())

    rows = []
    for one in parts:
        sizes = [w.numel() for w in one.matrices]
        weighted = sum(n * entropy(w) for n, w in zip(sizes, one.matrices, strict=True))
        rows.append(weighted / sum(sizes))
    return torch.tensor(rows)


def _mean(parts: Parts, score: Callable[[Tensor], float]) -> float:
    return sum(map(score, parts.matrices)) / len(parts.matrices)


def ends(layers: int) -> Tensor:
    """First and last layers first: how far a layer is from the middle."""
    at = torch.arange(layers, dtype=torch.float64)
    return (at - (layers - 1) / 2).abs()


def lim(anatomy: Anatomy, rows: Sequence[Sequence[int]]) -> Tensor:
    """One minus the cosine of what goes into a layer and what comes out, over tokens (Dumitru et al.,
    2024).
    """
    found = []
    for ids in rows:
        stream = record(anatomy, ids, check=False).stream
        found.append(1 - torch.cosine_similarity(stream[:-1], stream[1:], dim=-1).mean(1))
    return torch.stack(found).mean(0)


def lsaq(anatomy: Anatomy, rows: Sequence[Sequence[int]], top: int = TOP) -> Tensor:
    """One minus the Jaccard index of the `top` words that the last token's state says before and after a
    layer.
    """
    found = []
    for ids in rows:
        states = record(anatomy, ids, check=False).stream[:, -1]
        with torch.no_grad():
            logits = anatomy.norm(states).float() @ anatomy.unembed
        sets = [set(row.topk(min(top, len(row))).indices.tolist()) for row in logits]
        found.append([1 - len(a & b) / len(a | b) for a, b in pairwise(sets)])
    return torch.tensor(found).mean(0)


# Those that need weights only.
BY_WEIGHTS: Final = {"kurtboost": kurtboost, "mse": mse, "zd": zd, "ewq": ewq}
BY_DATA: Final = {"lim": lim, "lsaq": lsaq}
