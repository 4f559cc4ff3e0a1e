"""What the service loses when something breaks under load: nothing that it acknowledged.

Each round asks from several clients, breaks something, puts it right, and goes on asking. Then every answer
that a client got whole is looked up in the log, and the chain is verified.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ...store.audit import Audit
from ..page import Goal, Section
from ..postgres import postgres, programs
from ..serving import Running, free_port, started, stopped, wait_ready
from .client import Client, Reply
from .soaking import exactly
from .wire import Wire, wire

CLIENTS = 6
# While the file `full` is there, no file may grow: what SQLite meets when there is no room on the disk.
FULL = """
import os, threading, time, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def watch():
    while True:
        full = os.path.exists(os.environ["PILOTHOUSE_HOME"] + "/full")
        most = 4096 if full else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
"""
# Every tenth moment is an hour early: the machine's clock was put back.
STEP = """
import itertools
from datetime import datetime, timedelta
import pilothouse.store.payloads as payloads
now, count = payloads.utc_now, itertools.count()
def stepped():
    moment = datetime.fromisoformat(now()) - timedelta(hours=next(count) % 10 == 0)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
payloads.utc_now = stepped
"""


class Broken(NamedTuple):
    """What a kind of fault left behind."""

    name: str
    times: int
    replies: Counter[int]
    lost: int
    open: int
    chain: str
    again: bool = True  # it answered again, with nobody's help

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, and it answers again."""
        return not self.lost and not self.open and self.chain == "ok" and self.again


def section(home: Path, family: str, kills: int, seed: int, say: Callable[[str], None]) -> Section:
    """Break the service in every way, each in a home of its own."""
    some = max(1, kills // 20)
    kinds: list[tuple[str, int, Callable[[Path, int], Broken]]] = [
        ("service killed (SIGKILL)", kills, lambda at, n: killed(at, family, n, seed)),
        ("clients leave in mid-answer", 10 * some, lambda at, n: left(at, family, n, seed)),
        ("disk full", some, lambda at, n: full(at, family, n, seed)),
        ("clock put back an hour", some, lambda at, n: stepped(at, family, n, seed)),
    ]
    place = programs()
    if place is not None:
        kinds += [
            ("database killed (PostgreSQL)", some, lambda at, n: database_gone(at, family, n, seed, place)),
            (
                "network to PostgreSQL cut",
                some,
                lambda at, n: network_gone(at, family, n, seed, place, Wire.cut),
            ),
            (
                "network to PostgreSQL takes everything and gives nothing",
                some,
                lambda at, n: network_gone(at, family, n, seed, place, Wire.die),
            ),
        ]
    found: list[Broken] = []
    for number, (name, times, work) in enumerate(kinds):
        (at := home / str(number)).mkdir()
        found.append(work(at, times)._replace(name=name))
        say(f"{name}: {dict(found[-1].replies)}, {'nothing lost' if found[-1].whole else found[-1]}")
    rows = tuple(
        (
            one.name,
            str(one.times),
            str(one.replies[200]),
            str(sum(n for status, n in one.replies.items() if status >= 500)),
            str(one.replies[0]),
            str(one.lost),
            str(one.open),
            one.chain,
            "yes" if one.again else "no",
        )
        for one in found
    )
    answers = sum(one.replies[200] for one in found)
    lost, damaged = sum(one.lost for one in found), sum(not one.whole for one in found)
    damage = "faults: logs that do not verify or hold open records, services that do not answer again"
    goals = (
        Goal("faults: acknowledged answers without a row", "at most", 0, "", exactly(lost, answers)),
        Goal(damage, "at most", 0, "", exactly(damaged, len(found))),
    )
    notes = () if place is not None else ("PostgreSQL's programs or psycopg are not installed here.",)
    header = (
        "what happens", "times", "whole answers", "5xx", "cut or refused", "lost", "left open", "chain",
        "answers again",
    )  # fmt: skip
    text = (
        f"{CLIENTS} clients ask without a pause, every other one streaming. The service runs in a process of "
        "its own and is started again only after it was killed; everything else it has to outlive by itself."
    )
    return Section("Faults", text, header, rows, goals, notes=notes)


@contextmanager
def asking(port: int, seed: int, leave: float = 0.0) -> Iterator[list[Reply]]:
    """Clients that ask until the block ends; the list grows. A share `leave` of the streams is left."""
    over, replies = threading.Event(), list[Reply]()

    def work(number: int) -> None:
        rng = random.Random(f"{seed}:{number}")
        with closing(Client(port, seed + number, timeout=60.0)) as client:
            while not over.is_set():
                going = rng.random() < leave
                reply = client.ask(stream=going or number % 2 == 0, leave=going)
                replies.append(reply)
                if reply.status != 200 and not going:
                    time.sleep(0.05)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        over.set()
        for thread in threads:
            thread.join()


def counted(replies: list[Reply], where: str | Path, times: int, again: bool = True) -> Broken:
    """Hold the answers against the log, as the next start finds it."""
    from ...store.ledger import Ledger

    Ledger.open(where).close()  # closes what the dead left open
    with Audit.open(where) as audit:
        verified = audit.verify()
        states = {page.record.id: page.record.status for page in audit.pages()}
    lost = [
        r for r in replies if r.status == 200 and states.get(r.record_id) not in ("completed", "abstained")
    ]
    chain = "ok" if verified.broken is None else verified.broken.reason
    held = sum(status == "in_progress" for status in states.values())
    return Broken("", times, Counter(reply.status for reply in replies), len(lost), held, chain, again)


def until(replies: list[Reply], status: int, more: int, seconds: float = 120.0) -> bool:
    """Wait until `more` replies with this status have come; whether they did."""
    wanted = sum(reply.status == status for reply in replies) + more
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if sum(reply.status == status for reply in replies) >= wanted:
            return True
        time.sleep(0.01)
    return False


def killed(home: Path, family: str, times: int, seed: int) -> Broken:
    """Kill the service at random moments, and start it again each time."""
    rng, port = random.Random(seed), free_port()
    running = started(home, family, port=port)
    try:
        with asking(port, seed) as replies:
            for _ in range(times):
                until(replies, 200, 1)
                time.sleep(rng.random() * 0.5)
                running.process.kill()
                running.process.wait()
                running = started(home, family, port=port)
            again = until(replies, 200, CLIENTS)
    finally:
        stopped(running)
    return counted(replies, log_of(home), times, again)


def left(home: Path, family: str, times: int, seed: int) -> Broken:
    """Half of the streams are left after their first bytes."""
    running = started(home, family)
    try:
        with asking(running.port, seed, leave=0.5) as replies:
            until(replies, 0, times)
            again = until(replies, 200, CLIENTS)
        _settle(running)
    finally:
        stopped(running)
    return counted(replies, log_of(home), times, again)


def full(home: Path, family: str, times: int, seed: int) -> Broken:
    """The files of the service may not grow for a while; then they may again."""
    running = started(home, family, before=FULL)
    try:
        with asking(running.port, seed) as replies:
            for _ in range(times):
                until(replies, 200, CLIENTS)
                (home / "full").touch()
                until(replies, 503, 1)
                (home / "full").unlink()
            again = until(replies, 200, CLIENTS)
    finally:
        stopped(running)
    return counted(replies, log_of(home), times, again)


def stepped(home: Path, family: str, times: int, seed: int) -> Broken:
    """One row in ten is written with a clock that was put back."""
    running = started(home, family, before=STEP)
    try:
        with asking(running.port, seed) as replies:
            again = until(replies, 200, 20 * times)
    finally:
        stopped(running)
    return counted(replies, log_of(home), times, again)


def database_gone(home: Path, family: str, times: int, seed: int, place: Path) -> Broken:
    """The server of the log dies under load and comes back."""
    with postgres(place, free_port()) as server:
        running = started(home, family, log=server.url)
        try:
            with asking(running.port, seed) as replies:
                for _ in range(times):
                    until(replies, 200, CLIENTS)
                    server.kill()
                    until(replies, 503, 1)
                    server.start()
                again = until(replies, 200, CLIENTS)
        finally:
            stopped(running)
        return counted(replies, server.url, times, again)


def network_gone(
    home: Path, family: str, times: int, seed: int, place: Path, breaking: Callable[[Wire], None]
) -> Broken:
    """The wire between the service and the server of its log breaks under load, and is mended."""
    with postgres(place, port := free_port()) as server, wire(port) as between:
        running = started(home, family, log=server.url.replace(f":{port}/", f":{between.port}/"))
        try:
            with asking(running.port, seed) as replies:
                for _ in range(times):
                    until(replies, 200, CLIENTS)
                    breaking(between)
                    until(replies, 503, 1)
                    between.mend()
                again = until(replies, 200, CLIENTS)
        finally:
            between.mend()
            stopped(running)
        return counted(replies, server.url, times, again)


def log_of(home: Path) -> Path:
    """Where the service's log is."""
    return home / "data" / "log.db"


def _settle(running: Running) -> None:
    """Wait until nobody's answer is under way: one that was left is recorded a moment later."""
    wait_ready(running)
    time.sleep(1.0)
