"""Steer: the readings choose the interventions for the specialist that will answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...store.errors import NotFoundError
from ...store.records import Part, SteeringEntry, SteeringPlan
from ..voyage import Steer, milliseconds_since
from .step import At, Step
from .timing import timed

if TYPE_CHECKING:
    from ...router.steer.vector import SteeringVector

# the cards generate nothing, and a student's weights are not those that the vectors were made for
STEERABLE = ("adapter", "trunk")


def steer(part: Part, at: At) -> Step:
    """Write the steering plan: the policy's entries, then the caller's own word.

    Raises NotFoundError when the caller names a vector that the family does not have.
    """
    voyage, decision = at.voyage, part.decision
    assert decision is not None, "the route node fills it"
    chosen = str(decision.chosen)
    ship, begun = voyage.ship, time.perf_counter()
    plan = SteeringPlan()
    if ship.policy is not None:
        plan = ship.policy.plan(part.readings, chosen)
    if voyage.ask.steer != Steer():
        plan = overridden(plan, voyage.ask.steer, ship.vectors)
    if ship.cards[chosen].kind not in STEERABLE:
        plan = SteeringPlan()
    return Step(
        timed(part.model_copy(update={"steering": plan}), route_ms=milliseconds_since(begun)), "generate"
    )


def overridden(plan: SteeringPlan, word: Steer, vectors: Mapping[str, SteeringVector]) -> SteeringPlan:
    """The plan after the caller's word: `off` drops it, `extra` adds vectors or changes their strength."""
    entries: dict[str, SteeringEntry] = {} if word.off else {entry.name: entry for entry in plan.entries}
    for name, coefficient in word.extra.items():
        if name not in vectors:
            known = ", ".join(sorted(vectors)) or "none"
            raise NotFoundError(f"there is no steering vector {name!r}; this family has {known}")
        entries[name] = vectors[name].entry("the caller", coefficient)
    return SteeringPlan(entries=tuple(entries.values()))
