"""What waits in a queue, taken together: one commit, or one read, then serves all of it."""

from __future__ import annotations

import contextlib
import queue
from typing import TypeVar

T = TypeVar("T")


def together(waiting: queue.SimpleQueue[T | None] | queue.Queue[T | None], most: int) -> list[T]:
    """Wait for one, and return it with those that wait behind it, at most `most`; empty when there will be
    none, which a None in the queue says. One behind others is put back, for the next call.
    """
    first = waiting.get()
    found = [first] if first is not None else []
    while found and len(found) < most:
        try:
            one = waiting.get_nowait()
        except queue.Empty:
            break
        if one is None:
            with contextlib.suppress(queue.Full):
                waiting.put_nowait(None)
            break
        found.append(one)
    return found
