"""Route: the policy chooses who answers, or that nobody does."""

from __future__ import annotations

import random
import time

from ...store.errors import NotFoundError
from ...store.records import Candidate, Decision, Part
from ..answer import Piece, Settled
from ..voyage import Ship, Voyage, milliseconds_since
from ..words import abstention
from .step import At, Step
from .timing import timed

NO_POLICY = "none"


def route(part: Part, at: At) -> Step:
    """Decide; an abstention is said plainly, with who came nearest and why."""
    voyage = at.voyage
    begun = time.perf_counter()
    decision, candidates = decide(part, voyage)
    part = part.model_copy(update={"decision": decision, "candidates": candidates})
    part = timed(part, route_ms=milliseconds_since(begun))
    if not decision.abstained:
        return Step(part, "steer")
    text = abstention(decision, candidates, voyage.ship.cards)
    at.emit(Piece(part.index, text))
    at.emit(Settled(part.index))
    return Step(finished(part, text), "record")


def decide(part: Part, voyage: Voyage) -> tuple[Decision, tuple[Candidate, ...]]:
    """The policy's decision; without probes, or for a forced specialist without one, a plain choice by name.

    Raises NotFoundError for a forced specialist that does not exist.
    """
    ship, forced = voyage.ship, voyage.ask.specialist
    reading = voyage.live[part.index].reading
    if reading is None or ship.policy is None:
        return _unprobed(ship, forced), ()
    if forced is not None and forced not in reading.p_correct and forced in ship.cards:
        candidates = ship.policy.candidates(reading.p_correct, reading.readings)
        reason = f"{forced} was asked for by name; no probe tells how likely it is to be right."
        return _by_name(ship, forced, reason, forced=True), candidates
    # drawn from the record's own id, so that a replay draws alike
    rng = random.Random(f"{voyage.record_id}:{part.index}")
    return ship.policy.decide(reading.p_correct, reading.readings, forced=forced, rng=rng)


def _unprobed(ship: Ship, forced: str | None) -> Decision:
    if forced is not None:
        if forced not in ship.cards:
            raise NotFoundError(f"there is no specialist {forced!r}; choose one of {', '.join(ship.cards)}")
        return _by_name(ship, forced, f"{forced} was asked for by name.", forced=True)
    chosen = ship.fallback or next((name for name, card in ship.cards.items() if card.kind != "cards"), None)
    if chosen is None:
        raise NotFoundError("this family has no specialist that generates text; add one to its family.toml")
    return _by_name(ship, chosen, f"This family has no probes, so {chosen} answers everything.", forced=False)


def _by_name(ship: Ship, chosen: str, reason: str, *, forced: bool) -> Decision:
    policy = ship.policy
    return Decision(
        chosen=chosen,
        lam=policy.lam if policy is not None else 0.0,
        threshold=policy.threshold if policy is not None else 0.0,
        reason=reason,
        policy_hash=policy.hash if policy is not None else NO_POLICY,
        forced=forced,
    )


def finished(part: Part, text: str) -> Part:
    """The part of an abstention: `text` says why nobody answered."""
    generation = part.generation
    assert generation is not None
    generation = generation.model_copy(update={"specialist": None, "finish_reason": "abstained"})
    return part.model_copy(update={"answer": text, "generation": generation})
