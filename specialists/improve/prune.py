"""Prune FFN neurons that nothing hangs on, and layers that change little.

Keep-what-matters after Yu and Ananiadou's comparative neuron analysis (EMNLP 2024): the union over cases of
the neurons whose importance changes most against another model, or with the key heads silenced, stays in the
deep layers; the rest goes, and an adapter recovers. Magnitude and random neurons, as many in every layer,
are the baselines.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...router.locate.anatomy import Anatomy, matrix_of
from ...router.locate.case import Case, need
from ...router.locate.compare import compare_models, compare_runs, key_heads
from ...router.locate.edit import Edit
from ...router.locate.run import record
from ...store.errors import UsageError
from .distill import shallow

READS = ("gate_proj", "up_proj", "fc1", "dense_h_to_4h", "c_fc")


def comparison_scores(anatomy: Anatomy, cases: Sequence[Case], other: Anatomy | None = None) -> list[Tensor]:
    """Return CNA scores [L,F] of each case: importance against `other`, or lost with the key head
    silenced.
    """
    need(cases, "")
    if other is not None:
        return [compare_models(anatomy, other, case)[0] for case in cases]
    silenced = [Edit(head) for head in key_heads(anatomy, cases)]
    return [compare_runs(anatomy, case, silenced)[0] for case in cases]


def kept_by_union(scores: Sequence[Tensor], per_case: int, first: int) -> Tensor:
    """Mark the union [L,F] of each case's `per_case` highest neurons in layers from `first` on; all of the
    shallower layers stay.
    """
    kept = torch.zeros(scores[0].shape, dtype=torch.bool)
    for score in scores:
        deep = score[first:].flatten()
        best = deep.topk(min(per_case, len(deep))).indices
        kept[first:].view(-1)[best] = True
    kept[:first] = True
    return kept


def kept_alike(like: Tensor, scores: Tensor) -> Tensor:
    """Mark, by other scores [L,F], as many neurons in every layer as `like` [L,F] marks."""
    kept = torch.zeros_like(like)
    for layer, count in enumerate(like.sum(1).tolist()):
        kept[layer, scores[layer].topk(count).indices] = True
    return kept


def magnitude(anatomy: Anatomy) -> Tensor:
    """Length of what each neuron writes times that of what switches it on, [L,F]: weights only."""
    rows = []
    for block in anatomy.blocks:
        mlp = cast(Any, block.layer).mlp
        reads = [
            getattr(mlp, n)
            for n in ("gate_proj", "up_proj", "fc1", "dense_h_to_4h", "c_fc")
            if hasattr(mlp, n)
        ]
        size = torch.stack([matrix_of(one).norm(dim=0) for one in reads]).prod(0)
        rows.append(matrix_of(block.down).norm(dim=1) * size)
    return torch.stack(rows)


def chance(anatomy: Anatomy, seed: int) -> Tensor:
    """Random scores [L,F]: the control."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(anatomy.layers, anatomy.neurons, generator=generator)


@torch.no_grad()
def silence(anatomy: Anatomy, kept: Tensor) -> None:
    """Zero in place what the neurons that are not kept [L,F] write; sizes stay."""
    for block, row in zip(anatomy.blocks, kept, strict=True):
        matrix: Any = block.down.weight
        matrix.mul_(row.to(matrix) if isinstance(block.down, nn.Linear) else row.to(matrix)[:, None])


def narrowed(model: Any, kept: Tensor) -> Any:
    """Return a smaller model of the kept neurons [L,F] alone; every layer must keep the same number.

    Computes what `silence` leaves. Raises UsageError for unequal layers, or a kind without gate, up and down.
    """
    counts = set(kept.sum(1).tolist())
    layers = cast(Any, Anatomy.of(model).blocks)
    split = all(hasattr(b.layer.mlp, "gate_proj") and hasattr(b.layer.mlp, "up_proj") for b in layers)
    if len(counts) != 1 or not split or 0 in counts:
        raise UsageError(
            f"layers would keep {sorted(counts)} neurons: a smaller model needs one number for all, and "
            "gate_proj, up_proj and down_proj"
        )
    config = copy.deepcopy(model.config)
    config.intermediate_size = counts.pop()
    small = type(model)(config).to(next(model.parameters()).dtype)
    tensors = dict(model.state_dict())
    names = {id(module): name for name, module in model.named_modules()}
    for block, row in zip(layers, kept, strict=True):
        at, units = f"{names[id(block.layer)]}.mlp", row.nonzero()[:, 0]
        for name, axis in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
            tensors[f"{at}.{name}.weight"] = tensors[f"{at}.{name}.weight"].index_select(axis, units)
            bias = f"{at}.{name}.bias"
            if axis == 0 and bias in tensors:
                tensors[bias] = tensors[bias][units]
    small.load_state_dict(tensors)
    return small.eval()


def top_kept(scores: Tensor, share: float) -> Tensor:
    """Mark the same share of every layer [L,F] by scores; at least one neuron."""
    count = max(1, round(share * scores.shape[1]))
    kept = torch.zeros(scores.shape, dtype=torch.bool)
    return kept.scatter(1, scores.topk(count, dim=1).indices, True)


# -- layers --------------------------------------------------------------------------------------------------


def redundancy(anatomy: Anatomy, rows: Sequence[Sequence[int]]) -> Tensor:
    """Mean cosine [L] of what enters a layer and what leaves it, over tokens: 1 for a layer that does
    nothing.
    """
    found = []
    for ids in rows:
        stream = record(anatomy, ids, check=False).stream
        found.append(torch.cosine_similarity(stream[:-1], stream[1:], dim=-1).mean(1))
    return torch.stack(found).mean(0)


def without_layers(model: Any, scores: Tensor, count: int) -> tuple[Any, list[int]]:
    """Return the model without its `count` highest-scored layers, and the layers that stay.

    The first layer always stays: it turns words into states, and its cosine says little. Raises UsageError
    when no layer would be left to go.
    """
    if not 0 <= count < len(scores):
        raise UsageError(f"{count} of {len(scores)} layers cannot be skipped: at least the first one stays")
    gone = set((scores[1:].topk(count).indices + 1).tolist())
    stay = [layer for layer in range(len(scores)) if layer not in gone]
    left: Any = shallow(model, stay)
    return left.eval(), stay
