"""Escalate: withdraw an answer that failed its check, and hand the prompt to the next-best specialist."""

from __future__ import annotations

from ...store.records import Decision, Generation, Hop, Part, SteeringPlan, Timings
from ..answer import Piece, Restart, Settled
from ..words import failed_checks
from .check import next_best, told
from .route import finished
from .step import At, Step


def escalate(part: Part, at: At) -> Step:
    """Turn the attempt into a hop; go on with the next specialist, or abstain when none is left."""
    old = part.decision
    assert old is not None
    reason = "; ".join(one.reason for one in part.checks if one.verdict == "escalate")
    aloud = "; ".join(told(one, part) for one in part.checks if one.verdict == "escalate")
    at.emit(Restart(part.index, f"{old.chosen}: {aloud}"))
    chosen = next_best(part, at.voyage.ship)
    hop = Hop(
        decision=old,
        steering=part.steering,
        generation=part.generation,
        checks=part.checks,
        answer=part.answer,
    )
    bare = part.model_copy(
        update={
            "hops": (*part.hops, hop),
            "checks": (),
            "answer": None,
            "steering": SteeringPlan(),
            "generation": _shared(part),
        }
    )
    if chosen is not None:
        decision = _after(old, f"{old.chosen} failed its check ({reason}), so the next best is asked.")
        decision = decision.model_copy(update={"chosen": chosen.specialist})
        return Step(bare.model_copy(update={"decision": decision}), "steer")
    tried = tuple(name for one in bare.hops if (name := one.decision.chosen) is not None)
    decision = _after(old, f"Every attempt failed its check ({reason}), so nobody answers.")
    decision = decision.model_copy(update={"chosen": None, "abstained": True, "nearest": tried})
    text = failed_checks([(str(one.decision.chosen), _aloud(one, part)) for one in bare.hops])
    at.emit(Piece(part.index, text))
    at.emit(Settled(part.index))
    return Step(finished(bare.model_copy(update={"decision": decision}), text), "record")


def _aloud(hop: Hop, part: Part) -> str:
    tried = part.model_copy(update={"answer": hop.answer})
    return "; ".join(told(one, tried) for one in hop.checks if one.verdict == "escalate")


def _after(old: Decision, reason: str) -> Decision:
    return old.model_copy(update={"reason": reason, "propensity": 1.0})


def _shared(part: Part) -> Generation:
    """The prompt was read once: later attempts start from that, with clocks at zero."""
    assert part.generation is not None
    fields = {
        "specialist": None,
        "completion_tokens": 0,
        "mean_logprob": None,
        "finish_reason": "aborted",
        "first_token_ms": None,
        "timings": part.generation.timings.model_copy(update=dict.fromkeys(Timings.model_fields, 0.0)),
    }
    return part.generation.model_copy(update=fields)
