"""Check: the answer's own signals decide whether it stands."""

from __future__ import annotations

import re

from ...store.records import Candidate, Check, Part
from .. import sums
from ..answer import Settled
from ..voyage import Limits, Ship
from .step import At, Step

# the same 1 to 12 words, or the same character, over and over up to the end
_LOOP_WORDS = re.compile(r"(?P<unit>(?:\S+\s+){1,12}?)(?P=unit){3,}\S*\s*$")
_LOOP_CHARACTERS = re.compile(r"(?P<unit>\S{1,8}?)(?P=unit){11,}\s*$")

# or very few words in any order
LOOP_WINDOW, LOOP_VARIETY = 40, 8
WRONG_SUM = "wrong sum: the arithmetic was computed again and differs"


def check(part: Part, at: At) -> Step:
    """Judge the answer; send it on to the next-best specialist where one is left.

    A wrong sum or an endless loop is never given out: with nobody left, the program abstains. An answer that
    is merely unsure stands when nobody better is left. A forced specialist's answer stands, its faults noted.
    """
    voyage = at.voyage
    if voyage.ship.cards[part.specialist or ""].kind == "cards":
        checks: tuple[Check, ...] = (Check(verdict="answer", reason="written by code from the cards"),)
    else:
        checks = judge(part, voyage.ship.limits)
    faults = [one for one in checks if one.verdict == "escalate"]
    if faults and part.decision is not None and part.decision.forced:
        checks = tuple(kept(one, "its specialist was forced") for one in checks)
        faults = []
    elif faults and not hard(faults) and next_best(part, voyage.ship) is None:
        checks = tuple(kept(one, "nobody better is left") for one in checks)
        faults = []
    part = part.model_copy(update={"checks": checks})
    if faults:
        return Step(part, "escalate")
    at.emit(Settled(part.index))
    return Step(part, "record")


def judge(part: Part, limits: Limits) -> tuple[Check, ...]:
    """Every check that applies, with its verdict."""
    found = [_certainty(part, limits.min_mean_logprob), _loop(part), _arithmetic(part)]
    return tuple(one for one in found if one is not None)


def hard(faults: list[Check]) -> bool:
    """Whether an answer with these faults must not be given out."""
    return any(not one.reason.startswith("unsure") for one in faults)


def kept(one: Check, why: str) -> Check:
    """The check of an answer that stands in spite of it."""
    if one.verdict == "answer":
        return one
    return one.model_copy(update={"verdict": "answer", "reason": f"{one.reason}; it stands: {why}"})


def next_best(part: Part, ship: Ship) -> Candidate | None:
    """The best specialist above the threshold that has not tried yet; None too when the hops are used up.

    The cards are no help with a prompt that was not about them. What an override chose (a refusal, say) is
    never handed on: another specialist would answer without the override's steering.
    """
    decision = part.decision
    if decision is None or len(part.hops) >= ship.limits.hops or overridden(part, ship):
        return None
    tried = {hop.decision.chosen for hop in part.hops} | {decision.chosen}
    tried |= {name for name, card in ship.cards.items() if card.kind == "cards"}
    left = [c for c in part.candidates if c.specialist not in tried and c.p_correct >= decision.threshold]
    return max(left, key=lambda one: one.utility, default=None)


def overridden(part: Part, ship: Ship) -> bool:
    """Whether an override of the policy chose who answers this part."""
    if ship.policy is None or part.decision is None or part.decision.forced:
        return False
    rule = ship.policy.overriding(part.readings)
    return rule is not None and rule.specialist == part.decision.chosen


def told(one: Check, part: Part) -> str:
    """A check's reason for the user's eyes. Rows cannot be erased, so their reasons quote no text."""
    fault = sums.wrong(part.prompt or "", part.answer or "") if one.reason == WRONG_SUM else None
    return f"wrong sum: {fault}" if fault is not None else one.reason


def _certainty(part: Part, least: float) -> Check | None:
    made = part.generation
    if made is None or made.completion_tokens == 0:
        return Check(verdict="escalate", reason="empty: no token was generated")
    score = made.mean_logprob
    if not (part.answer or "").strip():
        return Check(verdict="escalate", reason="empty: nothing but white space was generated", score=score)
    if score is None:
        return Check(verdict="answer", reason="its specialist tells no log-probabilities")
    if score < least:
        return Check(
            verdict="escalate", reason=f"unsure: {score:.2f} nats a token, below {least:g}", score=score
        )
    return Check(verdict="answer", reason=f"mean log-probability at or above {least:g}", score=score)


def _loop(part: Part) -> Check | None:
    """Whether the answer was cut off while it repeated itself. One that ended by itself may repeat."""
    if part.generation is None or part.generation.finish_reason != "length":
        return None
    tail = (part.answer or "")[-400:]
    found = _LOOP_WORDS.search(tail) or _LOOP_CHARACTERS.search(tail)
    if found is not None:
        count = len(found["unit"].split())
        return Check(verdict="escalate", reason=f"loop: the same {count} words over and over")
    words = tail.split()[-LOOP_WINDOW:]
    if len(words) == LOOP_WINDOW and len(set(words)) <= LOOP_VARIETY:
        return Check(verdict="escalate", reason=f"loop: {len(set(words))} words over and over")
    return Check(verdict="answer", reason="no loop at the end")


def _arithmetic(part: Part) -> Check | None:
    prompt, answer = part.prompt or "", part.answer or ""
    if not sums.checkable(prompt, answer):
        return None
    fault = sums.wrong(prompt, answer)
    if fault is not None:
        return Check(verdict="escalate", reason=WRONG_SUM, score=0.0)
    return Check(verdict="answer", reason="the arithmetic was computed again and agrees", score=1.0)
