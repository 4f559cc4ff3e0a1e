"""Pruning models of sums modulo a prime: neurons of a sparse one, layers of a deep one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...specialists.improve.prune import (
    chance,
    comparison_scores,
    kept_alike,
    kept_by_union,
    magnitude,
    redundancy,
    silence,
    without_layers,
)
from ..locate import arithmetic
from .little import decoder, train

PER_CASE = 3
KNOWN = 0.63  # the share of sums that the source's base has right
BASE = range(10, 130, 5)  # steps that are tried
RANK, STEPS = 8, 150
LAYERS = 6


def half_learnt(seed: int) -> Any:
    """A sparse toy of one layer that knows about as many of its sums as the source's base."""
    best: tuple[float, Any] = (1.0, None)
    for steps in BASE:
        model = arithmetic.trained(seed, steps)
        known = arithmetic.accuracy(model)
        if abs(known - KNOWN) < best[0]:
            best = (abs(known - KNOWN), model)
        if known >= KNOWN:
            break
    return best[1]


def adapted(model: Any, steps: int, seed: int) -> Any:
    """Train a LoRA on the attention before the neurons and merge it, as the source does."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    tuned: Any = get_peft_model(copy.deepcopy(model), config)
    learning = [p for p in tuned.parameters() if p.requires_grad]
    arithmetic.teach(tuned.train(), learning, steps, lambda: torch.zeros(()))
    return tuned.merge_and_unload().eval().requires_grad_(False)


def prune_trial(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Half-learnt sums, an adapter that learns the rest, and what pruning leaves of that."""
    steps = 20 if quick else STEPS
    base = half_learnt(seed)
    tuned = adapted(base, steps, seed)
    rows = {
        "as trained": {"right": arithmetic.accuracy(base)},
        "with the adapter": {"right": arithmetic.accuracy(tuned)},
    }
    cases = arithmetic.cases(seed, 6 if quick else arithmetic.PRIME**2)
    anatomy = Anatomy.of(base)
    union = kept_by_union(comparison_scores(Anatomy.of(tuned), cases, anatomy), PER_CASE, 0)
    kept = {
        "compared": union,
        "largest": kept_alike(union, magnitude(anatomy)),
        "random": kept_alike(union, chance(anatomy, seed)),
    }
    for name, mask in kept.items():
        pruned = copy.deepcopy(base)
        silence(Anatomy.of(pruned), mask)
        rows[f"{name} neurons kept, adapter trained anew"] = {
            "right": arithmetic.accuracy(adapted(pruned, steps, seed)),
            "before": arithmetic.accuracy(pruned),
            "kept": float(mask.float().mean()),
        }
    return rows


# -- layers --------------------------------------------------------------------------------------------------


def all_sums(_step: int = 0) -> tuple[Tensor, Tensor]:
    """Every row `a b = c`, [P*P,4]; only the result is learnt."""
    prompts = arithmetic.sums()
    results = (prompts[:, 0] + prompts[:, 1]) % arithmetic.PRIME
    return torch.cat([prompts, results[:, None]], 1), torch.tensor([[0.0, 0.0, 1.0]]).expand(len(prompts), -1)


def layers_trial(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Each way of leaving one layer out of a deep model, and the one that redundancy names."""
    model: Any = decoder(arithmetic.PRIME + 1, 64, LAYERS, seed, feed=128)
    train(model, all_sums, 20 if quick else 60, 1e-3).requires_grad_(False)
    scores = redundancy(Anatomy.of(model), [case.ids for case in arithmetic.cases(seed, 40)])
    each = [
        arithmetic.accuracy(without_layers(model, torch.eye(LAYERS)[at], 1)[0]) for at in range(1, LAYERS)
    ]
    named = int(scores[1:].argmax())
    return {
        f"{LAYERS} layers": {"right": arithmetic.accuracy(model)},
        "without the most redundant layer": {"right": each[named]},
        "without another layer, mean": {"right": (sum(each) - each[named]) / (len(each) - 1)},
        "without the layer that costs least": {"right": max(each)},
    }
