"""How long the audit's list takes at a million records: one page, whole, for every kind of filter.

The log is generated: payloads are copies of real ones, prompts differ, digests are numbers (nothing here
verifies the chain). What is timed is the page as a browser asks for it, from the request to the last
byte, in this process and one at a time.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..store.hashes import digest
from ..store.ledger import Ledger
from ..store.records import Candidate, Decision, Generation, Message, Part, Reading, Request, Timings

if TYPE_CHECKING:
    from .page import Report

LIMIT_MS = 150.0
NAMES = ("arithmetic", "facts", "translate", "emotion", "screening", "words", "stories")
RARE = "rare-specialist"  # answers one record in 20,000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = "river house garden window teacher bottle spoon mountain dog cat bread lamp chair road bird"
THINGS = WORDS.split()


def audit(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    rows: Annotated[int, typer.Option(min=1000, help="Records in the generated log.")] = 1_000_000,
    samples: Annotated[int, typer.Option(min=5, help="Pages asked for, per kind of filter.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the log and of the places asked for.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="20,000 records: a trial, no result.")] = False,
) -> None:
    """Time the audit's list page at a million records; write audit.md."""
    count = 20_000 if quick else rows
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        log = Path(folder) / "log.db"
        made = generate(log, count)
        report = measure(log, count, 10 if quick else samples, seed, made)
    out.mkdir(parents=True, exist_ok=True)
    (out / "audit.md").write_text(report.markdown(), encoding="utf-8")
    for goal in report.goals:
        typer.echo(f"{goal.verdict}: {goal.what}", err=True)


# -- the log -----------------------------------------------------------------------------------------------


def generate(log: Path, count: int) -> float:
    """Write `count` records, a year from first to last; return the seconds that took."""
    begun = time.perf_counter()
    with Ledger.open(log, code="bench") as ledger:
        for name in (*NAMES, RARE, None):
            record = ledger.begin(Request(messages=(Message(role="user", content=f"template {name}"),)))
            part = _part(name)
            status = "completed" if name else "abstained"
            ledger.finish(record, status, parts=[part], answer=f"answer of {name}")  # type: ignore[arg-type]
    with closing(sqlite3.connect(log)) as connection:
        for faster in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000"):
            connection.execute(f"PRAGMA {faster}")
        connection.execute(MADE)
        connection.executemany("INSERT INTO made VALUES (?,?,?,?,?,?,?)", _templates(connection))
        connection.execute("CREATE TEMP TABLE things (slot INTEGER PRIMARY KEY, word TEXT)")
        connection.executemany("INSERT INTO things VALUES (?, ?)", enumerate(THINGS))
        first = connection.execute("SELECT max(sequence) FROM events").fetchone()[0] + 1
        values = {"count": count, "first": first, "things": len(THINGS), "threads": max(1, count // 5)}
        for statement in FILL:
            with connection:
                connection.execute(statement, values)
    return time.perf_counter() - begun


def _part(name: str | None) -> Part:
    """A part with three candidates and two readings."""
    everybody = NAMES[:3]
    return Part(
        prompt="the prompt",
        answer="the answer",
        readings=tuple(
            Reading(
                probe=f"reading-{n}", site="L4.last", score=-2.0, probability=0.1, threshold=0.5, fired=False
            )
            for n in range(2)
        ),
        candidates=tuple(Candidate(specialist=n, p_correct=0.5, cost=1.0, utility=0.4) for n in everybody),
        decision=Decision(
            chosen=name,
            lam=0.01,
            threshold=0.5,
            reason="the highest utility",
            policy_hash="ab" * 32,
            abstained=name is None,
        ),
        generation=Generation(specialist=name, finish_reason="stop", timings=Timings(total_ms=200.0)),
    )


def _templates(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """The rows of the real records, by who answered: the usual specialists, the rare one, nobody."""
    query = (
        "SELECT record_id, status, specialists, payload FROM events WHERE kind = 'closed' ORDER BY sequence"
    )
    for slot, (record, status, team, ended) in enumerate(connection.execute(query).fetchall()):
        opening = connection.execute(
            "SELECT payload FROM events WHERE kind = 'opened' AND record_id = ?", (record,)
        ).fetchone()[0]
        name = team.strip(",") or "None"
        yield slot, status, team, opening, ended, digest(f"template {name}"), digest(f"answer of {name}")


MADE = "CREATE TEMP TABLE made (slot INTEGER PRIMARY KEY, status, team, opening, ended, prompt, answer)"
# Draws are remainders of products: the same log every time, in no order that an index could profit from.
FILL = (
    """CREATE TEMP TABLE line AS
    WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1)
    SELECT i, :first + 2 * i AS place, printf('%032x', i) AS record, printf('%064x', i) AS key,
        'thread-' || (i * 48271 % :threads) AS thread,
        strftime('%Y-%m-%dT%H:%M:%S', 1767225600 + i * 31536000.0 / :count, 'unixepoch')
            || '.000000Z' AS asked,
        CASE WHEN i * 7919 % 20000 = 0 THEN 7 WHEN i * 7919 % 20000 < 2000 THEN 8
            ELSE i * 31337 % 7 END AS slot,
        i * 6151 % 1000 = 0 AS failed, i * 131 % :things AS one, i * 977 % :things AS two FROM n""",
    """INSERT INTO events SELECT place, 'opened', record, thread, asked, 'in_progress', '',
        replace(opening, prompt, key), printf('%064x', place - 1), printf('%064x', place)
        FROM line JOIN made USING (slot)""",
    """INSERT INTO events SELECT place + 1, 'closed', record, thread, asked, iif(failed, 'failed', status),
        team, ended, printf('%064x', place), printf('%064x', place + 1) FROM line JOIN made USING (slot)""",
    """INSERT INTO content (sha256, text) SELECT key, 'What is the ' || a.word || ' number ' || i
        || ' near the ' || b.word || '?'
        FROM line JOIN things a ON a.slot = one JOIN things b ON b.slot = two ORDER BY i""",
    "INSERT INTO content_uses SELECT record, key FROM line",
    "INSERT INTO content_uses SELECT record, answer FROM line JOIN made USING (slot)",
    """INSERT INTO listing SELECT place, record, thread, asked, iif(failed, 'failed', status), team, 0.5,
        50 + i * 7 % 900 FROM line JOIN made USING (slot)""",
)


# -- the measurement ---------------------------------------------------------------------------------------

Query = Callable[[random.Random], dict[str, str]]


def kinds(count: int) -> dict[str, Query]:
    """What is asked for: each kind of filter, at a place drawn at random."""

    def record(rng: random.Random) -> str:
        return f"{rng.randrange(count // 10, count):032x}"

    def day(rng: random.Random) -> str:
        return (BEGIN + timedelta(days=rng.randrange(20, 364))).date().isoformat()

    def week(rng: random.Random) -> dict[str, str]:
        start = BEGIN + timedelta(days=rng.randrange(0, 350))
        return {"since": start.date().isoformat(), "until": (start + timedelta(days=7)).date().isoformat()}

    return {
        "the newest": lambda rng: {},
        "older, from any record on": lambda rng: {"before": record(rng)},
        "a status that one in 1,000 has": lambda rng: {"status": "failed", "before": record(rng)},
        "a status that nobody has": lambda rng: {"status": "aborted"},
        "a usual specialist": lambda rng: {"specialist": rng.choice(NAMES), "before": record(rng)},
        "a specialist that one in 20,000 has": lambda rng: {"specialist": RARE},
        "a specialist that nobody has": lambda rng: {"specialist": "nobody"},
        "a status and a specialist": lambda rng: {"specialist": rng.choice(NAMES), "status": "failed"},
        "one conversation": lambda rng: {"thread": f"thread-{rng.randrange(max(1, count // 5))}"},
        "a week": week,
        "a status before a day": lambda rng: {"status": "abstained", "until": day(rng)},
        "a text that one record has": lambda rng: {"text": str(rng.randrange(count))},
        "two words that many have": lambda rng: {"text": f"{rng.choice(THINGS)} {rng.choice(THINGS)}"},
        "a word that every record has": lambda rng: {"text": "what"},
        "a word and a status": lambda rng: {"text": rng.choice(THINGS), "status": "failed"},
    }


def measure(log: Path, count: int, samples: int, seed: int, made: float) -> Report:
    """Ask for pages of every kind, in turn, and write down how long each took."""
    from .circumstances import cores, facts
    from .page import Goal, Report, Section

    times: dict[str, list[Spent]] = {name: [] for name in kinds(count)}
    rng = random.Random(seed + 1)
    with Ledger.open(log, code="bench") as ledger:
        for _ in range(samples):
            for name, spent in _round(ledger, kinds(count), rng):
                times[name].append(spent)
    walls = {name: [one.wall for one in row] for name, row in times.items()}
    every = [ms for row in walls.values() for ms in row]
    rows = tuple(_row(name, values) for name, values in times.items())
    whole = percentile_estimate(every, seed)
    worst = max(walls, key=lambda name: _at(sorted(walls[name]), 0.95))
    slow = percentile_estimate(walls[worst], seed)
    goals = (
        Goal(
            f"p95 of a list page at {count:,} records, all kinds of filter", "at most", LIMIT_MS, "ms", whole
        ),
        Goal(f"p95 of the slowest kind ({worst})", "at most", LIMIT_MS, "ms", slow),
    )
    text = (
        f"{count:,} records in a generated log (written in {made:.0f} s), {samples} pages of 50 rows of each "
        "kind, asked for in turn at places drawn at random; milliseconds on the clock, and of processor "
        "time. On a busy machine the clock says more of the machine: the load at the end was "
        f"{os.getloadavg()[0]:.1f} on {cores()} cores."
    )
    header = ("filter", "median", "p95", "slowest", "processor, median", "processor, p95")
    section = Section("The list page", text, header, rows, goals)
    command = f"pilothouse bench audit --rows {count} --samples {samples}"
    return Report("Audit pages", __doc__ or "", facts(command, seed), (section,))


class Spent(NamedTuple):
    """Milliseconds of one page: on the clock, and of this process's processor time."""

    wall: float
    processor: float


def _round(ledger: Ledger, asked: dict[str, Query], rng: random.Random) -> Iterator[tuple[str, Spent]]:
    client = _client(ledger)
    for name, query in asked.items():
        values = query(rng)
        begun, worked = time.perf_counter(), time.process_time()
        answer = client.get("/audit", params=values)
        spent = Spent((time.perf_counter() - begun) * 1e3, (time.process_time() - worked) * 1e3)
        if answer.status_code != 200:
            raise RuntimeError(f"{name}: {answer.status_code} {answer.text[:200]}")
        yield name, spent


_CLIENTS: dict[str, Any] = {}


def _client(ledger: Ledger) -> Any:
    """A client of the service over the log, with a family whose model is never asked."""
    from fastapi.testclient import TestClient

    from ..agents.service.app import create_app
    from ..agents.service.server import settle
    from ..specialists.family import Family

    where = ledger.place.name
    if where not in _CLIENTS:
        family = Family.open("starter")
        ship = SimpleNamespace(log=ledger, cards=family.cards, policy=family.policy, scout=None)
        app = create_app(SimpleNamespace(ship=ship))  # type: ignore[arg-type]
        app.state.desk.state = "ready"
        _CLIENTS[where] = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
        _CLIENTS[where].headers["accept"] = "text/html"
        _CLIENTS[where].get("/audit")  # templates are compiled once
        settle()  # as `pilothouse serve` does when it is ready
    return _CLIENTS[where]


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def percentile_estimate(values: list[float], seed: int) -> Any:
    """The 95th percentile with its 95 % bootstrap interval."""
    import numpy as np

    from .estimates import Estimate

    found = np.asarray(values)
    drawn = np.random.default_rng(seed).choice(found, size=(1000, len(found)))
    low, high = np.percentile(np.percentile(drawn, 95, axis=1), [2.5, 97.5])
    return Estimate(float(np.percentile(found, 95)), float(low), float(high), len(values))


def _row(name: str, values: list[Spent]) -> tuple[str, ...]:
    walls, worked = sorted(one.wall for one in values), sorted(one.processor for one in values)
    shown = (_at(walls, 0.5), _at(walls, 0.95), walls[-1], _at(worked, 0.5), _at(worked, 0.95))
    return (name, *(f"{ms:.1f}" for ms in shown))
