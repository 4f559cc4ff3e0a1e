"""A soak: more clients than the service answers at once, for long. Nothing may fail, grow or be lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..estimates import Estimate
from ..page import Goal, Section
from ..serving import Running, log_state, started, stopped
from .client import Client

GROWTH, WARM_SHARE = 0.05, 0.2  # memory is judged after the first fifth, when caches are full
SAMPLE_SECONDS = 1.0


class Soak(NamedTuple):
    """What came of it. `memory` is the service's resident bytes, once a second."""

    statuses: Counter[int]
    acknowledged: list[str]
    memory: list[int]
    seconds: float


def section(home: Path, family: str, clients: int, seconds: float, seed: int) -> Section:
    """Saturate a service, then look every acknowledged answer up in the log."""
    running = started(home, family, concurrency=clients, waiting=clients // 2)
    try:
        found = saturate(running, 2 * clients, seconds, seed)
    finally:
        stopped(running)
    missing = without_rows(home, found.acknowledged)
    records, chain = log_state(home)
    faults = sum(count for status, count in found.statuses.items() if status not in (200, 429))
    start, drift = growth(found.memory)
    rows = (
        ("seconds", f"{found.seconds:.0f}"),
        ("clients", f"{2 * clients} for {clients} places and {clients // 2} that may wait"),
        ("answers", f"{found.statuses[200]:,} ({found.statuses[200] / found.seconds:.1f} a second)"),
        ("turned away (429)", f"{found.statuses[429]:,}"),
        ("resident memory after the warm-up", f"{start / 2**20:.0f} MiB"),
        ("records in the log", f"{records:,}"),
        ("hash chain", chain),
    )
    every, kept = sum(found.statuses.values()), len(found.acknowledged)
    goals = (
        Goal("soak: answers other than 200 and 429", "at most", 0, "", exactly(faults, every)),
        Goal("soak: growth of memory", "at most", GROWTH, "%", exactly(drift, len(found.memory))),
        Goal("soak: acknowledged answers without a row", "at most", 0, "", exactly(missing, kept)),
    )
    text = (
        "Clients ask again at once; half as many more than may wait, so some are turned away, and come back "
        "after a moment. Memory is the service's resident set: the middle of the last fifth of the run "
        "against the middle of the second fifth."
    )
    return Section("Soak", text, ("what", "value"), rows, goals)


def exactly(value: float, count: int) -> Estimate:
    """A count or ratio that is what it is."""
    return Estimate(float(value), float(value), float(value), count)


def saturate(running: Running, clients: int, seconds: float, seed: int) -> Soak:
    """Ask with all clients until the time is over."""
    statuses, acknowledged, memory = Counter[int](), list[str](), list[int]()
    lock, begun = threading.Lock(), time.monotonic()

    def work(number: int) -> None:
        client = Client(running.port, seed * 1000 + number)
        while time.monotonic() - begun < seconds:
            reply = client.ask(stream=number % 4 == 0)
            with lock:
                statuses[reply.status] += 1
                if reply.status == 200:
                    acknowledged.append(reply.record_id)
            if reply.status == 429:
                time.sleep(0.05)
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(resident(running.process.pid))
        time.sleep(min(SAMPLE_SECONDS, seconds / 20))
    for thread in threads:
        thread.join()
    return Soak(statuses, acknowledged, memory, time.monotonic() - begun)


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line for line in lines if line.startswith("VmRSS:")]
    return 1024 * int(found[0].split()[1]) if found else 0


def growth(memory: list[int]) -> tuple[int, float]:
    """Memory after the warm-up, and its growth from there to the end as a share."""
    fifth = max(1, round(WARM_SHARE * len(memory)))
    early = sorted(memory[fifth : 2 * fifth] or memory[-1:])
    late = sorted(memory[-fifth:])
    start, end = early[len(early) // 2], late[len(late) // 2]
    return start, end / start - 1 if start else float("nan")


def without_rows(home: Path, names: list[str]) -> int:
    """How many acknowledged answers the log does not have as finished."""
    from ...store.audit import Audit

    with Audit.open(home / "data" / "log.db") as audit:
        known = {page.record.id for page in audit.pages() if page.record.status in ("completed", "abstained")}
    return sum(name not in known for name in names)
