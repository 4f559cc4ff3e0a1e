"""Record: explain, compose, and close the row; only then may the last piece be shown."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...store.records import Message, Part, Status, Timings
from ..answer import SEPARATOR, answer_of
from ..voyage import Turns, Voyage, milliseconds_since
from .explain import explained


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
    closing = ship.log.finish_soon(
        voyage.record_id, status, parts=ordered, answer=text, artifacts=ship.artifacts
    )
    # put together while the row goes to disk
    record_id = voyage.record_id if voyage.logged else None
    answer = answer_of(ordered, text, status, request.thread_id, record_id, Timings())
    closing.result()
    voyage.closed = True
    voyage.log_ms += milliseconds_since(begun)
    voyage.answer = answer.model_copy(update={"timings": total(voyage, ordered)})
    return (*voyage.conversation, Message(role="assistant", content=text))


def compose(parts: Sequence[Part]) -> str:
    """The answers in the order of the asks."""
    return SEPARATOR.join(part.answer for part in parts if part.answer)


def total(voyage: Voyage, parts: Sequence[Part]) -> Timings:
    """Where the request's time went: the parts' and attempts' sums, and the wall clock as `total_ms`."""
    tries = [g for part in parts for g in (*(hop.generation for hop in part.hops), part.generation)]
    spent = {
        name: sum(getattr(one.timings, name) for one in tries if one is not None)
        for name in Timings.model_fields
    }
    return Timings(**spent | {"log_ms": voyage.log_ms, "total_ms": milliseconds_since(voyage.began)})
