"""The choice of layer and strength: every option at every strength on validation prompts, under a budget for
what it does to neutral text; everything tried is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...store.errors import UsageError
from .make import Batch, side_effect
from .vector import SteeringVector

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
Score = Callable[[Sequence[SteeringVector]], float]


class Tried(NamedTuple):
    """One option at one strength: its effect (higher is better) and its side effect, nats a token."""

    option: str
    layers: tuple[int, ...]
    strength: float
    effect: float
    side_effect: float


@dataclass(frozen=True)
class Choice:
    """What was chosen (`vectors` empty where nothing is worth it), why, and all that was tried."""

    option: str
    strength: float
    reason: str
    vectors: tuple[SteeringVector, ...]
    baseline: float
    budget: float
    tried: tuple[Tried, ...]

    def record(self) -> dict[str, Any]:
        """The choice as plain values, for a vector's `meta` and for pages."""
        return {
            "option": self.option,
            "strength": self.strength,
            "reason": self.reason,
            "baseline": self.baseline,
            "budget": self.budget,
            "tried": [list(one) for one in self.tried],
        }


def stronger(vectors: Sequence[SteeringVector], strength: float) -> tuple[SteeringVector, ...]:
    """The same vectors with their coefficients multiplied."""
    return tuple(replace(one, coefficient=one.coefficient * strength) for one in vectors)


def affordable(
    vectors: Sequence[SteeringVector], cost: Score, budget: float, *, most: float = 64.0, halvings: int = 5
) -> float:
    """Return the strength, at most `most`, whose cost just keeps to the budget: doubled from 1 until it does
    not, then halved in between. It takes the cost to grow with the strength; 0 where none is found.
    """
    low, high = 0.0, 1.0
    while cost(stronger(vectors, high)) <= budget:
        low, high = high, 2 * high
        if high > most:
            return low
    for _ in range(halvings):
        middle = (low + high) / 2
        if cost(stronger(vectors, middle)) <= budget:
            low = middle
        else:
            high = middle
    return low


def choose(
    options: Mapping[str, Sequence[SteeringVector]],
    effect: Score,
    cost: Score,
    *,
    budget: float,
    baseline: float,
    strengths: Sequence[float] = STRENGTHS,
) -> Choice:
    """Try each option (its vectors together: one at layer 3, say, or a set) at each strength.

    The best `effect` whose `cost` is within `budget` is chosen; of equal ones that with the lower cost.
    Where none within the budget beats `baseline`, the effect of no steering, nothing is chosen and the reason
    says so. Raises UsageError when there is nothing to try.
    """
    if not options or not strengths:
        raise UsageError(
            f"{len(options)} options at {len(strengths)} strengths leave nothing to try; give one of each"
        )
    tried = tuple(
        Tried(name, tuple(one.layer for one in vectors), s, effect(scaled), cost(scaled))
        for name, vectors in options.items()
        for s in sorted(strengths)
        for scaled in [stronger(vectors, s)]
    )
    within = [one for one in tried if one.side_effect <= budget]
    if not within:
        least = min(one.side_effect for one in tried)
        reason = f"nothing stays within the budget of {budget:g} nats: the least side effect is {least:g}"
        return Choice("", 0.0, reason, (), baseline, budget, tried)
    best = max(within, key=lambda one: (one.effect, -one.side_effect))
    if best.effect <= baseline:
        reason = f"nothing within the budget of {budget:g} nats beats the unsteered {baseline:g}"
        return Choice("", 0.0, f"{reason}: the best is {best.effect:g}", (), baseline, budget, tried)
    reason = f"{baseline:g} -> {best.effect:g} at a side effect of {best.side_effect:g} of {budget:g} nats"
    chosen = stronger(options[best.option], best.strength)
    return Choice(best.option, best.strength, reason, chosen, baseline, budget, tried)


def neutral(texts: Sequence[Sequence[int]], begin: int = 4, longest: int = 48) -> list[Batch]:
    """Neutral token sequences as batches for `side_effect`: cut to one length a batch, generation from token
    `begin` on. Raises UsageError when none is long enough.
    """
    rows = [list(text)[:longest] for text in texts if len(text) > begin + 1]
    if not rows:
        raise UsageError(f"no neutral text has more than {begin + 1} tokens; give longer ones")
    return [_batch(group, begin) for group in _alike(rows)]


def _alike(rows: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    lengths = sorted({len(row) for row in rows})
    yield from ([row for row in rows if len(row) == length] for length in lengths)


def _batch(rows: list[list[int]], begin: int) -> Batch:
    import torch

    ids = torch.tensor(rows)
    labels: Tensor = ids.clone()
    labels[:, : begin + 1] = -100
    return {"input_ids": ids, "labels": labels}


def divergence(model: nn.Module, batches: Sequence[Batch]) -> Score:
    """The side effect of vectors on neutral batches: KL(plain || steered), nats a token."""

    def measure(vectors: Sequence[SteeringVector]) -> float:
        return side_effect(model, vectors, batches).kl

    return measure
