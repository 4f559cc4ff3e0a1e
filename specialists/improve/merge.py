"""Merge models that were tuned from one base: theta_base + F(delta), with delta = theta_tuned - theta_base.

Neuron-Fusion (locate the neurons that moved, suppress the others, restore the movers) beside task arithmetic
(Ilharco et al., 2023), TIES (Yadav et al., 2023), DARE (Yu et al., 2024), DELLA (Deep et al., 2024) and Model
Breadcrumbs (Davari and Belilovsky, 2024). Neuron-Fusion's rule is a reconstruction: its thresholds are
unpublished.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...store.errors import UsageError
from .neurons import Heads, units_of

Tensors = Mapping[str, Tensor]
Method = Literal["fusion", "task", "ties", "dare", "della", "breadcrumbs"]
Rule = Literal["moved", "random", "inverted", "elements"]
Measure = Literal["relative", "absolute"]


@dataclass(frozen=True)
class Merging:
    """How to merge. `weight` multiplies F(delta) of every model at the end; `norm`, where given, sets the
    length of all F(delta) together to that share of the length of delta instead (methods are compared at one
    length); fusion's copies of what belongs to no neuron are not scaled for it.

    fusion: the share `top` of a layer's neurons that moved most keeps `strong` x delta, the rest `weak` x
    delta; `measure` takes a neuron's shift relative to the neuron or by itself (the paper's is unpublished);
    `rule` replaces which are kept: random neurons, those that moved least, or single weights (the controls).
    ties: keep the share `top` of weights. dare, della: drop the share `drop`; `window` is how far della's
    probabilities spread around it. breadcrumbs: drop the share `low` of the smallest and `high` of the
    largest.
    """

    method: Method = "fusion"
    weight: float = 1.0
    norm: float | None = None
    top: float = 0.2
    weak: float = 0.3
    strong: float = 1.0
    measure: Measure = "relative"
    rule: Rule = "moved"
    drop: float = 0.5
    window: float = 0.2
    low: float = 0.85
    high: float = 0.01
    seed: int = 0


def merge(base: Tensors, tuned: Sequence[Tensors], how: Merging, heads: Heads) -> dict[str, Tensor]:
    """Return the merged tensors, in the dtypes of the base.

    Raises:
        UsageError: the models have other tensors or shapes than the base, or a setting is out of range.
    """
    _check(base, tuned, how)
    moves = [{n: model[n].float() - base[n].float() for n in base} for model in tuned]
    kept = FILTERS[how.method](base, moves, how, heads)
    scales = _scales(base, moves, kept, how, heads)
    return {name: _added(base[name], [m[name] for m in tuned], kept, name, scales[name]) for name in base}


def _check(base: Tensors, tuned: Sequence[Tensors], how: Merging) -> None:
    for index, model in enumerate(tuned):
        odd = sorted(n for n in {*base, *model} if _shape(base, n) != _shape(model, n))
        if odd:
            raise UsageError(
                f"model {index + 1} and the base differ in the tensor {odd[0]}: only models tuned from one "
                "base can be merged"
            )
    shares = {"top": how.top, "drop": how.drop, "low + high": how.low + how.high}
    wrong = {name: value for name, value in shares.items() if not 0 <= value <= 1}
    if not tuned or wrong or (how.drop == 1 and how.method in ("dare", "della")):
        raise UsageError(f"{len(tuned)} models, {wrong or 'drop 1'}: give models, and shares from 0 to 1")


def _shape(tensors: Tensors, name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _scales(
    base: Tensors, moves: Sequence[Tensors], kept: Sequence[Tensors], how: Merging, heads: Heads
) -> dict[str, float]:
    """What multiplies each tensor of sum F(delta): the weight, or what brings it to `norm` times the length
    of sum delta. Neuron-Fusion copies norms and embeddings, so that its neurons alone are scaled; where the
    copies are too long by themselves, everything is.
    """
    if how.norm is None:
        return dict.fromkeys(base, how.weight)
    neurons, wanted = set(base), how.norm * _length(moves, base)
    if how.method == "fusion":
        neurons = {name for group in units_of(base, heads) for name in group.members}
    copied = _length(kept, [n for n in base if n not in neurons])
    if copied >= wanted:
        neurons, copied = set(base), 0.0
    found = _length(kept, [n for n in base if n in neurons])
    scale = math.sqrt(wanted**2 - copied**2) / found if found else 0.0
    return {name: scale if name in neurons else 1.0 for name in base}


def _length(parts: Sequence[Tensors], names: Iterable[str]) -> float:
    """The length of the sum of parts, over the tensors of these names."""
    totals = (torch.stack([part[n] for part in parts]).sum(0) for n in names)
    return math.sqrt(sum(float(one.square().sum()) for one in totals))


def _added(base: Tensor, tuned: Sequence[Tensor], kept: Sequence[Tensors], name: str, scale: float) -> Tensor:
    """base + scale * sum F(delta); where one model's delta is kept whole, that model's own bits."""
    change = scale * torch.stack([part[name] for part in kept]).sum(0)
    total = (base.float() + change).to(base.dtype)
    if len(tuned) == 1:
        whole = change == tuned[0].float() - base.float()
        return torch.where(whole, tuned[0].to(base.dtype), total)
    return total


# -- Neuron-Fusion -------------------------------------------------------------------------------------------


def _fusion(base: Tensors, moves: Sequence[Tensors], how: Merging, heads: Heads) -> list[Tensors]:
    return [_fused(base, move, how, heads, how.seed + i) for i, move in enumerate(moves)]


def _fused(base: Tensors, move: Tensors, how: Merging, heads: Heads, seed: int) -> Tensors:
    """Weak and strong shares of delta; what belongs to no neuron (norms, embeddings) goes with the strong, at
    most whole.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {name: min(how.strong, 1.0) * change for name, change in move.items()}
    for group in units_of(base, heads):
        if how.rule == "elements":
            for name in group.members:
                keep = _largest(move[name].abs(), how.top)
                found[name] = move[name] * torch.where(keep, how.strong, how.weak)
            continue
        shift = group.norms(move)
        if how.measure == "relative":
            shift = shift / group.norms(base).clamp_min(1e-12)
        score = {"moved": shift, "inverted": -shift}.get(how.rule)
        if score is None:
            score = torch.rand(len(shift), generator=generator)
        factor = torch.where(_largest(score, how.top), how.strong, how.weak)
        for name in group.members:
            found[name] = move[name] * group.spread(name, factor)
    return found


def _largest(score: Tensor, share: float) -> Tensor:
    """Mark the share of the largest entries; ties go to the first."""
    flat = score.flatten()
    mask = torch.zeros(flat.shape, dtype=torch.bool)
    mask[flat.argsort(descending=True, stable=True)[: round(share * len(flat))]] = True
    return mask.view(score.shape)


# -- the others ----------------------------------------------------------------------------------------------


def _task(base: Tensors, moves: Sequence[Tensors], how: Merging, heads: Heads) -> list[Tensors]:
    return list(moves)


def _ties(base: Tensors, moves: Sequence[Tensors], how: Merging, heads: Heads) -> list[Tensors]:
    """Trim each tensor, elect each weight's sign by mass, average those that agree; one part comes back."""
    merged = {}
    for name in base:
        parts = torch.stack([m[name] * _largest(m[name].abs(), how.top) for m in moves])
        agree = (parts.sign() == parts.sum(0).sign()) & (parts != 0)
        merged[name] = (parts * agree).sum(0) / agree.sum(0).clamp_min(1)
    return [merged]


def _dare(base: Tensors, moves: Sequence[Tensors], how: Merging, heads: Heads) -> list[Tensors]:
    generator = torch.Generator().manual_seed(how.seed)
    return [{n: _thinned(x, torch.full(x.shape, how.drop), generator) for n, x in m.items()} for m in moves]


def _thinned(x: Tensor, drop: Tensor, generator: torch.Generator) -> Tensor:
    """Drop entries with their probabilities and divide the others by what is left, so that the mean stays."""
    stay = torch.rand(x.shape, generator=generator) >= drop
    return torch.where(stay, x / (1 - drop), torch.zeros_like(x))


def _della(base: Tensors, moves: Sequence[Tensors], how: Merging, heads: Heads) -> list[Tensors]:
    """As DARE, but the smaller a weight's rank in its row, the likelier it goes."""
    generator = torch.Generator().manual_seed(how.seed)

    def thinned(x: Tensor) -> Tensor:
        rank = x.abs().argsort(-1).argsort(-1).float() / max(x.shape[-1] - 1, 1)
        drop = (how.drop + how.window * (0.5 - rank)).clamp(0, 0.99)
        return _thinned(x, drop, generator)

    return [{n: thinned(x) for n, x in m.items()} for m in moves]


def _breadcrumbs(base: Tensors, moves: Sequence[Tensors], how: Merging, heads: Heads) -> list[Tensors]:
    def masked(x: Tensor) -> Tensor:
        return x * (_largest(x.abs(), 1 - how.low) & ~_largest(x.abs(), how.high))

    return [{n: masked(x) for n, x in m.items()} for m in moves]


Filter = Callable[[Tensors, Sequence[Tensors], Merging, Heads], list[Tensors]]
FILTERS: dict[Method, Filter] = {
    "fusion": _fusion,
    "task": _task,
    "ties": _ties,
    "dare": _dare,
    "della": _della,
    "breadcrumbs": _breadcrumbs,
}
