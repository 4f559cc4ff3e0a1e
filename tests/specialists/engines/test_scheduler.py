"""The queue and the batch, over work that does nothing but count."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from pilothouse.specialists.engines.base import (
    Capacity,
    EngineBusy,
    EngineClosed,
    Request,
    RequestFailed,
    Sampling,
    TokenEvent,
)
from pilothouse.specialists.engines.scheduler import Scheduler, Turns
from pilothouse.specialists.engines.stream import Stream


@dataclass(eq=False)
class Row:
    stream: Stream
    left: int


@dataclass
class Counting:
    """Each row gives its prompt's first token `max_tokens` times. `before` runs before each pass."""

    before: Callable[[], None] = lambda: None
    passes: list[list[int]] = field(default_factory=list)
    opened: list[int] = field(default_factory=list)
    shut_rows: int = 0

    def open(self, request: Request, stream: Stream) -> Row:
        self.opened.append(request.tokens[0])
        if request.specialist == "broken":
            raise ValueError("no row for this one")
        return Row(stream, request.sampling.max_tokens)

    def step(self, rows: Sequence[Row]) -> None:
        self.before()
        self.passes.append([row.stream.request.tokens[0] for row in rows])
        for row in rows:
            row.left -= 1
            if row.stream.request.specialist == "fatal":
                raise MemoryError("too much")
            row.stream.put(TokenEvent(row.stream.request.tokens[0], "x", 0.0, None if row.left else "length"))

    def shut(self, row: Row) -> None:
        self.shut_rows += 1


def ask(number: int, count: int = 2, specialist: str = "a") -> Request:
    return Request((number,), specialist, Sampling(max_tokens=count))


def settled(scheduler: Scheduler[Row]) -> None:
    until = time.monotonic() + 5
    while scheduler.load != (0, 0, 0):
        assert time.monotonic() < until, scheduler.load
        time.sleep(0.001)


def test_rows_join_and_leave_between_passes_in_order_of_arrival() -> None:
    work = Counting()
    scheduler = Scheduler(work, Capacity(rows=2))
    counts = {1: 1, 2: 3, 3: 2, 4: 1}
    streams = scheduler.submit([(ask(n, count), 1) for n, count in counts.items()], 0)
    assert [[e.token for e in stream] for stream in streams] == [[n] * c for n, c in counts.items()]
    assert work.passes == [[1, 2], [2, 3], [2, 3], [4]]
    settled(scheduler)
    assert work.shut_rows == 4


def test_memory_is_counted_and_the_first_in_line_is_not_passed_over() -> None:
    work = Counting()
    scheduler = Scheduler(work, Capacity(rows=9, memory=10))
    sizes = {1: 6, 2: 6, 3: 1}
    for stream in scheduler.submit([(ask(n), size) for n, size in sizes.items()], 0):
        assert len(list(stream)) == 2
    assert work.passes == [[1], [1], [2, 3], [2, 3]], "3 would fit beside 1, but 2 comes first"
    settled(scheduler)


def test_an_error_in_opening_ends_one_and_an_error_in_a_pass_ends_its_rows() -> None:
    work = Counting()
    scheduler = Scheduler(work, Capacity(rows=2))
    broken, fine = scheduler.submit([(ask(1, specialist="broken"), 1), (ask(2), 1)], 0)
    with pytest.raises(RequestFailed, match="no row for this one"):
        next(broken)
    assert len(list(fine)) == 2
    for stream in scheduler.submit([(ask(3, specialist="fatal"), 1), (ask(4), 1)], 0):
        with pytest.raises(RequestFailed, match="too much"):
            list(stream)
    settled(scheduler)
    assert len(list(scheduler.submit([(ask(5), 1)], 0)[0])) == 2


def test_cancelled_requests_never_get_a_row() -> None:
    gate = threading.Event()
    work = Counting(before=lambda: gate.wait(5) and None)
    scheduler = Scheduler(work, Capacity(rows=1))
    first, second, third = scheduler.submit([(ask(n), 1) for n in (1, 2, 3)], 0)
    second.cancel()
    gate.set()
    assert (len(list(first)), list(second), len(list(third))) == (2, [], 2)
    assert work.opened == [1, 3]
    settled(scheduler)


def test_the_queue_is_bounded_all_or_none() -> None:
    gate = threading.Event()
    work = Counting(before=lambda: gate.wait(5) and None)
    scheduler = Scheduler(work, Capacity(rows=1, waiting=3))
    held = scheduler.submit([(ask(0), 1)], 0)
    while scheduler.load[0] == 0:
        time.sleep(0.001)
    some = scheduler.submit([(ask(1), 1), (ask(2), 1)], 0)
    with pytest.raises(EngineBusy, match="2 more are too many for a queue of 3"):
        scheduler.submit([(ask(3), 1), (ask(4), 1)], 0)
    with pytest.raises(EngineBusy, match="4 more"):
        scheduler.submit([(ask(5), 1)] * 4, None)  # could never fit: not waited for
    late: list[Stream] = []
    waiter = threading.Thread(target=lambda: late.extend(scheduler.submit([(ask(6), 1)] * 3, 5)))
    waiter.start()
    gate.set()
    waiter.join()
    assert all(len(list(stream)) == 2 for stream in (*held, *some, *late))
    settled(scheduler)


def test_closing_ends_all_and_waiters_too() -> None:
    gate = threading.Event()
    work = Counting(before=lambda: gate.wait(5) and None)
    scheduler = Scheduler(work, Capacity(rows=1, waiting=1))
    running, queued = scheduler.submit([(ask(1, 9), 1)], 0)[0], None
    while scheduler.load[0] == 0:
        time.sleep(0.001)
    queued = scheduler.submit([(ask(2), 1)], 0)[0]
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            scheduler.submit([(ask(3), 1)], None)
        except EngineClosed as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    threading.Timer(0.05, gate.set).start()
    scheduler.close()
    waiter.join()
    for stream in (running, queued):
        with pytest.raises(EngineClosed):
            list(stream)
    assert len(errors) == 1
    with pytest.raises(EngineClosed):
        scheduler.submit([(ask(4), 1)], 0)


def test_the_thread_ends_with_the_work() -> None:
    scheduler = Scheduler(Counting(), Capacity(), "ending")
    list(scheduler.submit([(ask(1), 1)], 0)[0])
    settled(scheduler)
    until = time.monotonic() + 5
    while any(thread.name == "pilothouse-ending" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.001)


def test_close_waits_for_threads_whose_work_is_over() -> None:
    """One that is still ending when the interpreter is taken down aborts the process."""
    for _ in range(50):
        scheduler = Scheduler(Counting(), Capacity(), "closing")
        for _ in range(3):
            list(scheduler.submit([(ask(1), 1)], 0)[0])
        scheduler.close()
        assert not any(thread.name == "pilothouse-closing" for thread in threading.enumerate())


def test_turns_are_handed_on_to_who_waits() -> None:
    turns, order, stop = Turns(), list[str](), threading.Event()

    def again() -> None:
        while not stop.is_set():
            with turns:
                order.append("again")
                time.sleep(0.001)

    thread = threading.Thread(target=again)
    thread.start()
    while len(order) < 3:
        time.sleep(0.001)
    begun = len(order)
    with turns:
        got = len(order)
    stop.set()
    thread.join()
    assert got - begun <= 2, "whoever waits comes next, though the holder asks again at once"


def test_a_stream_tells_its_end_once_and_its_error_after_its_events() -> None:
    stream = Stream(ask(1))
    stream.put(TokenEvent(1, "a", 0.0))
    stream.fail(ValueError("odd"))
    stream.put(TokenEvent(2, "b", 0.0))
    assert next(stream).text == "a"
    with pytest.raises(RequestFailed, match="odd"):
        next(stream)
    gone = Stream(ask(1))
    gone.put(TokenEvent(1, "a", 0.0))
    gone.cancel()
    gone.fail(ValueError("late"))
    assert list(gone) == []


UNCLOSED = """
import time
from pilothouse.specialists.engines.base import Capacity, Request, Sampling, TokenEvent
from pilothouse.specialists.engines.scheduler import Scheduler
from pilothouse.specialists.engines.stream import Stream

class Endless:
    def open(self, request, stream):
        return type("Row", (), {"stream": stream})()
    def step(self, rows):
        time.sleep(0.001)
        for row in rows:
            row.stream.put(TokenEvent(1, "x", 0.0))
    def shut(self, row):
        print("shut")

stream = Scheduler(Endless(), Capacity()).submit([(Request((1,), "a"), 1)], 0)[0]
print(next(stream).text)
kept = stream._on_cancel.__self__
"""


def test_leaving_the_interpreter_ends_what_nobody_closed(pytestconfig: pytest.Config) -> None:
    path = os.pathsep.join([str(pytestconfig.rootpath / ".typing"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-P", "-c", UNCLOSED],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["x", "shut"], "")
