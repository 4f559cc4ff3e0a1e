"""The prepared statements of SQLite against SQLAlchemy's own execution: the same rows, whatever the batch."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pilothouse.store import events, listing, payloads, prepared
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import (
    Artifact,
    Candidate,
    Decision,
    Generation,
    Message,
    Outcome,
    Part,
    Request,
)

NOW = "2026-01-31T12:00:00.000000Z"
TABLES = ("events", "content", "content_uses", "artifacts", "listing", "people", "running")


def ask(number: int) -> Request:
    text = f"prompt {number % 3} \x00 \ud800 'é'; DROP TABLE events; -- :who ?"
    person = f"person {number}" if number % 2 else None
    return Request(
        id=f"r{number}",
        thread_id="t",
        messages=(Message(role="user", content=text),),
        person=person,
        created_at=NOW,
    )


def answered(number: int) -> Part:
    return Part(
        prompt="p",
        answer=f"a{number}",
        candidates=(Candidate(specialist="s", p_correct=0.25, cost=1, utility=0.1),) if number % 2 else (),
        decision=Decision(chosen="s", lam=0, threshold=0, reason="r", policy_hash="h"),
        generation=Generation(specialist="s", finish_reason="stop"),
    )


def artifacts(number: int) -> list[Artifact]:
    return [Artifact(kind="k", name=f"n{i}", sha256=f"{i:064x}") for i in range(number % 4)]


def write(place: Path, count: int) -> None:
    """Records in one batch and one by one; one stays open, one has an outcome."""
    with Ledger.open(place, code="test") as ledger:
        ledger._process = ledger._process.model_copy(update={"pid": 1, "started": 1, "host": "elsewhere"})
        names = [f"{number:032x}" for number in range(count)]
        for future in [ledger.begin_soon(ask(n), record_id=name) for n, name in enumerate(names)]:
            future.result()
        for number, name in enumerate(names[:-1] if count > 1 else names):
            ledger.finish(
                name, "completed", parts=[answered(number)], answer="x", artifacts=artifacts(number)
            )
        ledger.note(Outcome(record_id=names[0], source="s", verdict="up", note="well", created_at=NOW))


def rows(place: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(place)) as connection:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in TABLES}


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A clock that stands."""
    monkeypatch.setattr(payloads, "utc_now", lambda: NOW)
    return monkeypatch


@pytest.mark.parametrize("count", [1, 2, 17])
def test_the_same_rows_as_through_sqlalchemy(tmp_path: Path, still: pytest.MonkeyPatch, count: int) -> None:
    write(tmp_path / "fast.db", count)
    plain_runs: list[int] = []

    def run(connection: Any, statement: Any, given: Any) -> None:
        if given:
            plain_runs.append(len(given))
            connection.execute(statement, given)

    def found(connection: Any, query: Any, **values: str) -> list[Any]:
        return [tuple(row) for row in connection.execute(query, values)]

    for module in (prepared, events.prepared, listing.prepared):
        still.setattr(module, "run", run)
        still.setattr(module, "found", found)
    write(tmp_path / "plain.db", count)
    assert plain_runs
    fast, plain = rows(tmp_path / "fast.db"), rows(tmp_path / "plain.db")
    assert fast == plain
    assert len(fast["listing"]) == count


def test_known_artifacts_are_not_written_again(tmp_path: Path) -> None:
    sent: list[str] = []
    with Ledger.open(tmp_path / "log.db", code="test") as ledger:
        ledger._writer.submit(
            lambda c: c.connection.dbapi_connection.set_trace_callback(sent.append)
        ).result()
        for number in range(3):
            name = ledger.begin(ask(number))
            ledger.finish(name, "completed", parts=[answered(number)], artifacts=artifacts(3))
    assert sum("INTO artifacts" in text for text in sent) == 3  # one statement a row, the first time only
    assert len(rows(tmp_path / "log.db")["artifacts"]) == 3
