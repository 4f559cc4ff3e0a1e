"""Judge a fitted policy on rows it was not fitted on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .artifact import RoutingPolicy, choices
from .comparing import STACK, Contender, Judge
from .report import Report
from .seen import Seen, quality_of
from .table import Table
from .trust import fit_curves, straight


def contenders_of(policy: RoutingPolicy, seen: Seen, at: list[int]) -> list[Contender]:
    """The stack and each of its heads on new rows, of the models at these places."""
    fitted = policy.fitted
    found = []
    for name, head in fitted.heads.items():
        quality = quality_of(head.predict(seen), fitted.base)
        past = fitted.heads_out_of_fold.get(name)
        curves = fit_curves(past, policy.quality) if past is not None else straight(len(fitted.models))
        found.append(Contender(name, quality[:, at], curves(quality)[:, at]))
    begun = time.perf_counter()
    quality = fitted.quality(seen)
    found.append(Contender(STACK, quality[:, at], fitted.curves(quality)[:, at], time.perf_counter() - begun))
    mean = torch.nanmean(policy.quality, 0).expand(len(seen), -1)[:, at]
    noise = torch.rand(mean.shape, generator=torch.Generator().manual_seed(0))
    return [
        *found,
        Contender("constant", mean, mean, baseline=True),
        Contender("random", noise, noise, baseline=True),
    ]


def judged(
    policy: RoutingPolicy, table: Table, seen: Seen, facts: Mapping[str, Any]
) -> tuple[Report, dict[str, Any]]:
    """A report, and what the policy as it is set (lam, threshold) does with the table."""
    at = [policy.models.index(name) for name in table.models]
    found = contenders_of(policy, seen, at)
    judge = Judge.of(table, {name: float(policy.prices[i]) for name, i in zip(table.models, at, strict=True)})
    report = Report.of(facts, judge, found)
    stack = next(one for one in found if one.name == STACK)
    return report, {"verdict": report.sentence} | as_set(policy, stack.p, table.quality, policy.prices[at])


def as_set(policy: RoutingPolicy, p: Tensor, quality: Tensor, prices: Tensor) -> dict[str, Any]:
    """Share answered, share wrong among the answered, and mean price, on rows whose chosen model has a
    label.
    """
    who = choices(p, prices, policy.policy.lam)[:, None]
    best, right = p.gather(1, who)[:, 0], quality.gather(1, who)[:, 0]
    known = ~right.isnan()
    answered = known & (best >= policy.policy.threshold)
    wrong = 1 - right[answered]
    return {
        "prompts": int(known.sum()),
        "answered": float(answered.sum() / max(1, int(known.sum()))),
        "wrong among the answered": float(wrong.mean()) if wrong.numel() else None,
        "stated risk": policy.policy.risk,
        "mean price": float(prices[who[:, 0]][answered].mean()) if wrong.numel() else None,
    }
