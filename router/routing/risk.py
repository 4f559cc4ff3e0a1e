"""Abstention and escalation at a stated risk."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ...store.errors import UsageError
from ..threshold import calibrate_threshold
from .artifact import RoutingPolicy, choices


class Chosen(NamedTuple):
    """What a policy would do with prompts whose outcome is known: P(correct) and quality of who is chosen,
    [n].
    """

    p: Tensor
    quality: Tensor


def chosen(p: Tensor, quality: Tensor, prices: Tensor, lam: float) -> Chosen:
    """The rows where the chosen model has a label."""
    who = choices(p, prices, lam)[:, None]
    at, right = p.gather(1, who)[:, 0], quality.gather(1, who)[:, 0]
    known = ~right.isnan()
    return Chosen(at[known], right[known])


def with_risk(policy: RoutingPolicy, risk: float, delta: float = 0.1) -> RoutingPolicy:
    """The same policy with the lowest threshold that keeps a stated share of wrong answers among the given.

    Below it nobody answers: whoever asked may escalate to a person or to a model outside the table. The
    promise (probability 1 - delta, for prompts like the table's) is that of `calibrate_threshold`; it is
    calibrated on predictions for rows that the heads had not seen. Raises UsageError when no threshold keeps
    the risk.
    """
    found = chosen(policy.fitted.out_of_fold, policy.quality, policy.prices, policy.policy.lam)
    if not found.p.numel():
        raise UsageError(
            "no prompt has a label for the model that would be chosen; a risk cannot be calibrated"
        )
    right = (found.quality >= 0.5).double()
    threshold = calibrate_threshold(found.p.tolist(), right.tolist(), risk, delta=delta)
    return policy._with(threshold=threshold, risk=risk)
