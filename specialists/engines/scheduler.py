"""Continuous batching: requests join and leave between passes; one thread makes the passes.

The thread lives while there is work. Waiting requests come in the order of their arrival; one whose memory is
not free yet keeps those behind it waiting, so that large requests are not passed over for ever.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from .base import Capacity, EngineBusy, EngineClosed, Request
from .stream import Stream


class OpenRow(Protocol):
    """A request that has a row."""

    stream: Stream


R = TypeVar("R", bound=OpenRow)
AT_EXIT = 5.0


class Work(Protocol[R]):
    """What an engine does for its scheduler, always on the scheduler's thread."""

    def open(self, request: Request, stream: Stream) -> R:
        """Give a request a row. An error ends that request alone."""

    def step(self, rows: Sequence[R]) -> None:
        """Make one pass over the rows: put events into their streams. An error ends all of these rows."""

    def shut(self, row: R) -> None:
        """Give back what a row held; its stream is over."""


@dataclass(frozen=True)
class _Waiting:
    request: Request
    stream: Stream
    memory: int


class Turns:
    """A lock that is handed on in the order of arrival, near enough: who comes while it is held comes next,
    even if the holder asks again at once. Not re-entrant.
    """

    def __init__(self) -> None:
        self._next, self._held = threading.Lock(), threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._held.acquire()

    def __exit__(self, *_: object) -> None:
        self._held.release()


class Scheduler(Generic[R]):
    """The queue and the batch of one engine."""

    def __init__(self, work: Work[R], capacity: Capacity, name: str = "engine") -> None:
        self.work, self.capacity, self.name = work, capacity, name
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._rows: list[tuple[R, int]] = []
        self._spent = 0
        self._closed = False
        self._thread: threading.Thread | None = None  # the newest; its work may be over
        self._working = False
        _OPEN.add(self)

    # -- callers -------------------------------------------------------------------------------------------

    def submit(self, requests: Sequence[tuple[Request, int]], wait: float | None) -> list[Stream]:
        """Queue requests at one moment, each with the bytes that it needs while it runs. Raises EngineBusy
        and EngineClosed; then none is queued.
        """
        found = [_Waiting(request, Stream(request, self._wake), memory) for request, memory in requests]
        with self._changed:
            self._room(len(found), wait)
            self._waiting.extend(found)
            if not self._working:
                self._working, before = True, self._thread
                self._thread = threading.Thread(
                    target=self._run, args=(before,), name=f"pilothouse-{self.name}", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()
        return [entry.stream for entry in found]

    def _room(self, new: int, wait: float | None) -> None:
        until, most = None if wait is None else time.monotonic() + wait, self.capacity.waiting
        while len(self._waiting) + new > most and not self._closed:
            left = None if until is None else until - time.monotonic()
            if new > most or (left is not None and left <= 0):
                raise EngineBusy(
                    f"{len(self._waiting)} requests wait already, {new} more are too many for a "
                    f"queue of {most}: try again later, wait longer, or raise its capacity"
                )
            self._changed.wait(left)
        if self._closed:
            raise EngineClosed("the engine is closed: open another")

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self, patience: float | None = None) -> None:
        """End every stream with EngineClosed, and the thread, which is waited for up to `patience` seconds
        (None: to the end of its pass). Closing twice does nothing.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)

    @property
    def load(self) -> tuple[int, int, int]:
        """How many requests have a row, how many wait, and how many bytes are reserved."""
        with self._changed:
            return len(self._rows), len(self._waiting), self._spent

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self, before: threading.Thread | None) -> None:
        if before is not None:  # its work is over, but whoever closes waits for the newest alone
            before.join()
        try:
            self._passes()
        except BaseException as error:  # a fault of ours: nobody may wait for ever
            with self._changed:
                self._closed = True
                self._end(error)
            raise

    def _passes(self) -> None:
        while self._next():
            rows = [row for row, _ in self._rows if not row.stream.over]
            if not rows:
                continue
            try:
                self.work.step(rows)
            except Exception as error:
                for row in rows:
                    row.stream.fail(error)

    def _next(self) -> bool:
        """Let rows leave and requests in; whether there is anything to do."""
        self._leave()
        while (entry := self._admitted()) is not None:
            try:
                row = self.work.open(entry.request, entry.stream)
            except Exception as error:
                entry.stream.fail(error)
                with self._counted(-entry.memory):
                    continue
            self._rows.append((row, entry.memory))
        with self._changed:
            if self._closed:
                self._end(EngineClosed("the engine was closed before the answer was complete: open another"))
                return False
            if not self._rows and not self._waiting:
                self._working = False
                return False
        return True

    def _leave(self) -> None:
        over = [pair for pair in self._rows if pair[0].stream.over]
        for row, memory in over:
            self.work.shut(row)
            with self._counted(-memory):
                self._rows.remove((row, memory))

    @contextmanager
    def _counted(self, memory: int) -> Iterator[None]:
        with self._changed:
            self._spent += memory
            yield
            self._changed.notify_all()

    def _admitted(self) -> _Waiting | None:
        """Take the first waiting request, if a row and its memory are free."""
        with self._changed:
            while self._waiting and self._waiting[0].stream.over:
                self._waiting.popleft()
                self._changed.notify_all()
            full = len(self._rows) >= self.capacity.rows
            if self._closed or not self._waiting or full:
                return None
            if self._spent + self._waiting[0].memory > self.capacity.memory:
                return None
            entry = self._waiting.popleft()
            self._spent += entry.memory
            self._changed.notify_all()
            return entry

    def _end(self, error: BaseException) -> None:
        for entry in self._waiting:
            entry.stream.fail(error)
        for row, _ in self._rows:
            row.stream.fail(error)
            with suppress(Exception):
                self.work.shut(row)
        self._waiting.clear()
        self._rows, self._spent, self._working = [], 0, False
        self._changed.notify_all()


_OPEN: WeakSet[Scheduler[Any]] = WeakSet()


@atexit.register
def _close_all() -> None:
    """A pass under way while the interpreter is taken down would crash: end what nobody closed."""
    for scheduler in list(_OPEN):
        scheduler.close(AT_EXIT)
