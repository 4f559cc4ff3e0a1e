"""How fast the log takes decisions durably, and what readers wait meanwhile.

One process; a decision is an opening and a closing row with eight readings, nine candidates and fifteen
feature shares, as the starter family writes them. A write counts when its future has answered: then it is on
disk.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from multiprocessing import Queue
from multiprocessing.synchronize import Event as EventType
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ..store.audit import Audit, Filter
from ..store.errors import VerifyError
from ..store.ledger import Ledger
from ..store.records import (
    Candidate,
    Decision,
    FeatureContribution,
    Generation,
    Message,
    Part,
    Reading,
    Request,
    Timings,
    new_id,
)
from .circumstances import cores, facts

IN_FLIGHT = 1024  # decisions under way at once, so that a flush is shared by many
PAUSE = 0.05  # seconds between two looks of a reader
TARGET_RATE, TARGET_LIST_MS = 2000.0, 150.0


class Run(NamedTuple):
    """One sustained run."""

    place: str
    decisions: int
    seconds: float
    rates: list[float]
    list_ms: list[float]
    verified: bool
    bytes: int
    cpu_us: float  # processor time of this process, by decision; what other programs take does not enter it

    @property
    def rate(self) -> float:
        """Decisions a second over the whole run."""
        return self.decisions / self.seconds


def log(
    decisions: Annotated[int, typer.Option(min=100, help="How many to write.")] = 100_000,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Measure this empty database too (postgresql://…).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    quick: Annotated[bool, typer.Option("--quick", help="3,000 decisions: a trial, no result.")] = False,
) -> None:
    """Measure durable decisions a second and the list's latency meanwhile; writes log.md."""
    count = 3_000 if quick else decisions
    with tempfile.TemporaryDirectory(prefix="pilothouse-log-", dir=Path.cwd()) as folder:
        runs = [
            sustained(str(Path(folder) / "log.db"), count),
            single(str(Path(folder) / "one.db"), count // 50),
        ]
        flush = flush_ms(Path(folder))
    if url is not None:
        runs.append(sustained(url, count))
    for run in runs:
        typer.echo(f"{run.place}: {run.rate:,.0f} decisions/s, list p95 {_p95(run.list_ms):.0f} ms", err=True)
        if not run.verified:
            raise VerifyError(f"the log written to {run.place} does not verify")
    _write_page(out / "log.md", runs, flush, count)


def sustained(where: str, count: int) -> Run:
    """Write `count` decisions, `IN_FLIGHT` at a time, while a reader lists and searches."""
    part, processes = _part(), multiprocessing.get_context("spawn")
    done, found = processes.Event(), processes.Queue()
    with Ledger.open(where, code="bench") as ledger:
        reader = processes.Process(target=_read, args=(ledger.place.where, done, found))
        reader.start()
        begun, spent = time.perf_counter(), time.process_time()
        stamps = list(_pump(ledger, part, count))
        seconds, spent = time.perf_counter() - begun, time.process_time() - spent
        done.set()
        list_ms = found.get(timeout=60)
        reader.join()
    return _closed(where, count, seconds, _rates(stamps, begun), list_ms, spent)


def single(where: str, count: int) -> Run:
    """Write one decision after the other: what one quiet user waits for, two flushes each."""
    part = _part()
    with Ledger.open(where, code="bench") as ledger:
        begun, spent = time.perf_counter(), time.process_time()
        for number in range(count):
            name = ledger.begin(_request(number))
            ledger.finish(name, "completed", parts=[part], answer=f"answer {number}")
        seconds, spent = time.perf_counter() - begun, time.process_time() - spent
    return _closed(where, count, seconds, [count / seconds], [], spent, ", one at a time")


def _closed(
    where: str,
    count: int,
    seconds: float,
    rates: list[float],
    list_ms: list[float],
    spent: float,
    how: str = "",
) -> Run:
    with Audit.open(where) as audit:
        found = audit.verify()
        with audit.reading() as connection:
            size = audit.place.size(connection)
        place = "SQLite" if audit.place.path is not None else "PostgreSQL"
    place += how
    whole = found.ok and found.records == count and found.rows == 2 * count
    return Run(place, count, seconds, rates, list_ms, whole, size, 1e6 * spent / count)


def _pump(ledger: Ledger, part: Part, count: int) -> Iterator[float]:
    """Keep up to `IN_FLIGHT` decisions under way; give the time at which each was seen to be on disk."""
    opened: deque[tuple[str, Future[str]]] = deque()
    closing: deque[Future[int]] = deque()
    for number in range(count):
        while len(opened) + len(closing) >= IN_FLIGHT:
            yield from _advance(ledger, part, opened, closing, wait=True)
        name = new_id()
        opened.append((name, ledger.begin_soon(_request(number), record_id=name)))
        yield from _advance(ledger, part, opened, closing, wait=False)
    while opened or closing:
        yield from _advance(ledger, part, opened, closing, wait=True)


def _advance(
    ledger: Ledger,
    part: Part,
    opened: deque[tuple[str, Future[str]]],
    closing: deque[Future[int]],
    wait: bool,
) -> Iterator[float]:
    """Close what is open on disk; take leave of what is closed on disk."""
    if wait:
        (closing[0] if closing else opened[0][1]).result()
    while opened and opened[0][1].done():
        name, begun = opened.popleft()
        begun.result()
        answer = f"the answer of {name}"
        closing.append(ledger.finish_soon(name, "completed", parts=[part], answer=answer))
    while closing and closing[0].done():
        closing.popleft().result()
        yield time.perf_counter()


def _read(where: str, done: EventType, found: Queue[list[float]]) -> None:
    """Ask for pages of the list, as the audit page does, until it is over; in a process of its own."""
    wanted = [Filter(), Filter(status="completed"), Filter(specialist="s3")]
    list_ms: list[float] = []
    with Audit.open(where) as audit:
        while not done.wait(PAUSE):
            begun = time.perf_counter()
            audit.summaries(wanted[len(list_ms) % len(wanted)], limit=50)
            list_ms.append(1000 * (time.perf_counter() - begun))
    found.put(list_ms)


def _rates(stamps: list[float], begun: float) -> list[float]:
    """Decisions in each whole second."""
    counts: dict[int, int] = {}
    for stamp in stamps:
        counts[int(stamp - begun)] = counts.get(int(stamp - begun), 0) + 1
    whole = sorted(counts)[:-1]
    return [float(counts[second]) for second in whole] or [len(stamps) / (stamps[-1] - begun)]


def _request(number: int) -> Request:
    text = f"What is {number} + {number % 97}? Please answer with one number and say how sure you are."
    return Request(messages=(Message(role="user", content=text),))


def _part() -> Part:
    names = [f"s{index}" for index in range(9)]
    decision = Decision(
        chosen="s3", lam=0.1, threshold=0.3, policy_hash="ab" * 32, reason="s3 has utility 0.87; next is s1."
    )
    return Part(
        readings=tuple(
            Reading(
                probe=f"r{i}", site="layer4.last", score=-1.25, probability=0.2, threshold=0.5, fired=False
            )
            for i in range(8)
        ),
        candidates=tuple(Candidate(specialist=n, p_correct=0.5, cost=1.0, utility=0.4) for n in names),
        features=tuple(
            FeatureContribution(
                specialist="s3", feature=i, label=f"feature {i}", activation=1.5, contribution=0.25
            )
            for i in range(15)
        ),
        decision=decision,
        generation=Generation(
            specialist="s3",
            prompt_tokens=23,
            completion_tokens=5,
            mean_logprob=-0.1,
            finish_reason="stop",
            timings=Timings(probe_ms=1, prefill_ms=8, decode_ms=20, total_ms=31),
        ),
    )


def flush_ms(folder: Path) -> float:
    """The middle time of one flush to this disk: the floor under a durable write that waits for its own."""
    times = []
    with (folder / "flush").open("wb") as stream:
        for _ in range(50):
            stream.write(b"x" * 4096)
            stream.flush()
            begun = time.perf_counter()
            os.fsync(stream.fileno())
            times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))] if values else float("nan")


def _write_page(path: Path, runs: list[Run], flush: float, count: int) -> None:
    from .page import table  # brings numpy

    rows = [
        (
            run.place,
            f"{run.decisions:,}",
            f"{run.rate:,.0f}",
            f"{min(run.rates):,.0f}",
            f"{_p95(run.list_ms):.0f} ms ({len(run.list_ms)} pages)" if run.list_ms else "–",
            f"{run.cpu_us:.0f} µs",
            f"{run.bytes / run.decisions:,.0f}",
            "ok" if run.verified else "BROKEN",
        )
        for run in runs
    ]
    header = (
        "log",
        "decisions",
        "a second",
        "slowest second",
        "list p95 meanwhile",
        "CPU each",
        "bytes each",
        "chain",
    )
    first = runs[0]
    goals = [
        ("durable decisions a second, SQLite, one process", f"≥ {TARGET_RATE:,.0f}", f"{first.rate:,.0f}",
         _verdict(first.rate >= TARGET_RATE)),
        ("list page p95 meanwhile", f"≤ {TARGET_LIST_MS:.0f} ms", f"{_p95(first.list_ms):.0f} ms",
         _verdict(_p95(first.list_ms) <= TARGET_LIST_MS)),
    ]  # fmt: skip
    load = os.getloadavg()[0]
    text = [
        "# Writing the log",
        f"{IN_FLIGHT} decisions under way at once (fewer share a flush if fewer are: see the last row), "
        "written by one process while another lists; each decision is two rows, both on disk before it "
        f"counts. One flush to this disk took {flush:.2f} ms in the middle, and the machine's load was "
        f"{load:.1f} on {cores()} cores (this program at niceness {os.nice(0)}): above that number, other "
        "programs slowed this one, and the processor time (CPU each) is the figure to trust: one core is all "
        "that writes can use.",
        table(("", ""), facts(f"pilothouse bench log --decisions {count}", 0)),
        "## Targets",
        table(("target", "asked", "measured", ""), goals),
        "## Runs",
        table(header, rows),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"
