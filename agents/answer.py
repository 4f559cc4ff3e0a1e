"""What a caller gets: an `Answer`, and while it is being made, the pieces of its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..store.records import Frozen, Part, Status, Timings

SEPARATOR = "\n\n"  # between the answers of a prompt's parts
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of one part's answer, as the engine gave it."""

    part: int
    text: str


@dataclass(frozen=True, slots=True)
class Restart:
    """What was shown of one part is withdrawn: its check failed. `text` is what had been shown."""

    part: int
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """A part's answer is final."""

    part: int


Event = Piece | Restart | Settled


class Usage(Frozen):
    """Tokens read and written, all parts and attempts together."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Answer(Frozen):
    """A finished answer, with the reasons for it; `ask --json` prints exactly these keys.

    When a prompt had several parts, `specialist` joins their names with `+`, `p_correct` is that of the part
    least sure of, and the entries of the lists carry the index of their part. `record_id` is None when
    nothing was logged. `abstained` is true when no part was answered.
    """

    record_id: str | None
    thread_id: str
    text: str
    status: Status
    specialist: str | None
    p_correct: float | None
    abstained: bool
    candidates: tuple[Entry, ...] = ()
    readings: tuple[Entry, ...] = ()
    features: tuple[Entry, ...] = ()
    steering: tuple[Entry, ...] = ()
    usage: Usage = Usage()
    timings: Timings = Timings()

    def __str__(self) -> str:
        return self.text


def answer_of(
    parts: Sequence[Part], text: str, status: Status, thread_id: str, record_id: str | None, timings: Timings
) -> Answer:
    """Gather the parts' records into one answer."""
    specialist, p_correct = heading(parts)
    return Answer(
        record_id=record_id,
        thread_id=thread_id,
        text=text,
        status=status,
        specialist=specialist,
        p_correct=p_correct,
        abstained=status == "abstained",
        candidates=tuple(entries(parts, "candidates")),
        readings=tuple(entries(parts, "readings")),
        features=tuple(entries(parts, "features")),
        steering=tuple(
            {"part": part.index, **entry.model_dump()} for part in parts for entry in part.steering.entries
        ),
        usage=usage_of(parts),
        timings=timings,
    )


def heading(parts: Sequence[Part]) -> tuple[str | None, float | None]:
    """Who answers, several names joined with `+`, and the P(correct) of the part least sure of."""
    names = [name for name in dict.fromkeys(part.specialist for part in parts) if name is not None]
    sure = [p for p in map(belief, parts) if p is not None]
    return "+".join(names) or None, min(sure) if sure else None


def belief(part: Part) -> float | None:
    """The calibrated chance that the part's specialist is right; the best one's when none answered."""
    chances = {candidate.specialist: candidate.p_correct for candidate in part.candidates}
    if part.specialist is None:
        return max(chances.values(), default=None)
    return chances.get(part.specialist)


def usage_of(parts: Sequence[Part]) -> Usage:
    """Count the tokens of every attempt; a part's prompt is read once, however many attempts share it."""
    tries = [[*(hop.generation for hop in part.hops), part.generation] for part in parts]
    read = sum(max((g.prompt_tokens for g in group if g is not None), default=0) for group in tries)
    written = sum(g.completion_tokens for group in tries for g in group if g is not None)
    return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


def entries(parts: Sequence[Part], name: str) -> list[Entry]:
    """The list `name` of every part, each entry with the index of its part."""
    return [{"part": part.index, **entry.model_dump()} for part in parts for entry in getattr(part, name)]
