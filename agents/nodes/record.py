"""Record: explain, compose, and close the row; only then may the last piece be shown."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...store.records import Message, Part, Status, Timings
from ..answer import SEPARATOR, answer_of
from ..voyage import Turns, Voyage, milliseconds_since


def record(voyage: Voyage, parts: Sequence[Part]) -> Turns:
    """Close the row, fill `voyage.answer`, and return the conversation with this exchange added.

    Raises StoreError when the row cannot be written: then the answer must not be given out whole.
    """
    ship, request = voyage.ship, voyage.request
    assert request is not None
    ordered = [explained(voyage, part) for part in sorted(parts, key=lambda one: one.index)]
    text = compose(ordered)
    status: Status = "abstained" if all(part.specialist is None for part in ordered) else "completed"
    voyage.wait_opened()
    begun = time.perf_counter()
    ship.log.finish_soon(
        voyage.record_id, status, parts=ordered, answer=text, artifacts=ship.artifacts
    ).result()
    voyage.closed = True
    voyage.log_ms += milliseconds_since(begun)
    voyage.answer = answer_of(
        ordered,
        text,
        status,
        request.thread_id,
        voyage.record_id if voyage.logged else None,
        total(voyage, ordered),
    )
    return (*voyage.conversation, Message(role="assistant", content=text))


def compose(parts: Sequence[Part]) -> str:
    """The answers in the order of the asks."""
    return SEPARATOR.join(part.answer for part in parts if part.answer)


def explained(voyage: Voyage, part: Part) -> Part:
    """The part with what makes up its specialist's logit (the best candidate's, when nobody answered)."""
    best = max(part.candidates, key=lambda one: one.p_correct, default=None)
    name = part.specialist or (best.specialist if best is not None else None)
    live = voyage.live.get(part.index)
    scout = voyage.ship.scout
    if name is None or live is None or live.reading is None or scout is None:
        return part
    if name not in live.reading.p_correct:
        return part  # forced, without a probe
    rows = scout.explain(name, live.reading.x, voyage.ship.limits.features)
    return part.model_copy(update={"features": rows})


def total(voyage: Voyage, parts: Sequence[Part]) -> Timings:
    """Where the request's time went: the parts' and attempts' sums, and the wall clock as `total_ms`."""
    tries = [g for part in parts for g in (*(hop.generation for hop in part.hops), part.generation)]
    spent = {
        name: sum(getattr(one.timings, name) for one in tries if one is not None)
        for name in Timings.model_fields
    }
    return Timings(**spent | {"log_ms": voyage.log_ms, "total_ms": milliseconds_since(voyage.began)})
