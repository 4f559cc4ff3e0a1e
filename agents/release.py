"""Put the parts' pieces in order, and hold the last one back until the log has the answer."""

from __future__ import annotations

from collections import defaultdict

from .answer import SEPARATOR, Event, Piece, Restart, Settled

Shown = list[str | Restart]


class Release:
    """Turns events of parts that are answered at the same time into one text in the order of the parts.

    The newest piece always stays behind: `last` gives it out once the closing row is on disk, so that nobody
    holds a whole answer that the log might lose. With `settled`, a part's text comes out only after its
    check, so nothing is ever withdrawn.
    """

    def __init__(self, settled: bool = False) -> None:
        self._only_settled = settled
        self._current = 0
        self._waiting: dict[int, list[Event]] = defaultdict(list)
        self._held = ""
        self._shown: list[str] = []  # of the current part
        self._earlier = False  # an earlier part has text
        self._fresh = True  # the current part has none yet

    def feed(self, event: Event) -> Shown:
        """Take one event; return what may be shown now."""
        queue = self._waiting[event.part]
        if isinstance(event, Restart):
            queue.clear()  # nothing of it was shown
        queue.append(event)
        out: Shown = []
        while ready := self._ready():
            for one in ready:
                out += self._take(one)
        return out

    def last(self) -> str:
        """The piece held back."""
        held, self._held = self._held, ""
        return held

    def _ready(self) -> list[Event]:
        queue = self._waiting[self._current]
        if self._only_settled and not any(isinstance(event, Settled) for event in queue):
            return []
        self._waiting[self._current] = []
        return queue

    def _take(self, event: Event) -> Shown:
        if isinstance(event, Piece):
            return self._piece(event.text)
        if isinstance(event, Restart):
            return self._restart(event)
        self._current += 1
        self._earlier |= not self._fresh
        self._shown, self._fresh = [], True
        return []

    def _piece(self, text: str) -> Shown:
        if not text:
            return []
        if self._fresh and self._earlier:
            text = SEPARATOR + text
        ready, self._held = self._held, text
        if ready and not self._fresh:
            self._shown.append(ready)
        self._fresh = False
        return [ready] if ready else []

    def _restart(self, event: Restart) -> Shown:
        shown, self._shown = "".join(self._shown), []
        if not self._fresh:
            self._held, self._fresh = "", True
        return [Restart(event.part, event.reason, shown)] if shown else []
