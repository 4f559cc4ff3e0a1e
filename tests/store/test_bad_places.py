"""Bad places for a log: each gets its own error, one sentence, and what to do."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from pilothouse.store import errors
from pilothouse.store.audit import Audit
from pilothouse.store.database import Place
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Request

Ask = Callable[..., Request]
OPENERS = pytest.mark.parametrize("opener", [Ledger.open, Audit.open])


@OPENERS
def test_a_folder_is_no_log(tmp_path: Path, opener: Callable[[Path], object]) -> None:
    with pytest.raises(errors.StorePlaceError, match="is a folder"):
        opener(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(errors.StorePlaceError, match="is a file where a folder is needed"):
        Ledger.open(tmp_path / "data" / "log.db")


def test_no_log_to_read(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreMissingError, match="does not exist") as caught:
        Audit.open(tmp_path / "log.db")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "log.db").exists()


@OPENERS
def test_a_file_that_is_no_database(tmp_path: Path, opener: Callable[[Path], object]) -> None:
    log = tmp_path / "log.db"
    log.write_bytes(b"These are not the bytes of a database. " * 100)
    with pytest.raises(errors.StoreCorruptError, match="damaged or is no log"):
        opener(log)
    assert log.read_bytes().startswith(b"These are not")


def test_a_damaged_log(log: Path, ask: Ask) -> None:
    with Ledger.open(log, code="test") as ledger:
        for number in range(20):
            ledger.begin(ask(f"prompt {number} " + "x" * 2000))
    damaged = bytearray(log.read_bytes())
    damaged[4096:] = os.urandom(len(damaged) - 4096)
    log.write_bytes(damaged)
    with pytest.raises(errors.StoreCorruptError, match="restore a copy"), Audit.open(log) as audit:
        audit.verify()


def test_a_truncated_log(log: Path, ask: Ask) -> None:
    with Ledger.open(log, code="test") as ledger:
        for number in range(20):
            ledger.begin(ask(f"prompt {number} " + "x" * 2000))
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.StoreCorruptError, match="restore a copy"), Audit.open(log) as audit:
        audit.verify()


@pytest.fixture
def locked(log: Path) -> Iterator[Path]:
    """A log whose write lock somebody holds and does not let go."""
    Ledger.open(log, code="test").close()
    with closing(sqlite3.connect(log, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield log


def test_a_locked_log(locked: Path) -> None:
    with pytest.raises(errors.StoreLockedError, match=r"more than 0.2 s; wait for it or end it"):
        Ledger.open(locked, patience=0.2)
    with Audit.open(locked) as audit:  # readers are not kept out
        assert audit.summaries() == []


def test_a_log_locked_later_recovers(log: Path, ask: Ask) -> None:
    with Ledger.open(log, code="test", patience=0.2) as ledger:
        with closing(sqlite3.connect(log, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(errors.StoreLockedError):
                ledger.begin(ask("too early"))
        record_id = ledger.begin(ask("the lock is free"))
    with Audit.open(log) as audit:
        assert [row.id for row in audit.summaries()] == [record_id]
        assert audit.verify().ok


def test_a_full_disk(log: Path, ask: Ask) -> None:
    """SQLite answers the same to its own page limit as to a disk without room."""
    with Ledger.open(log, code="test") as ledger:
        record_id = ledger.begin(ask("there is room"))

        @event.listens_for(ledger._engine, "begin")
        def _no_room(connection: object) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # type: ignore[attr-defined]

        with pytest.raises(errors.StoreFullError, match="is full; free some space"):
            ledger.finish(record_id, "completed", answer="x" * 200_000)
        event.remove(ledger._engine, "begin", _no_room)
        ledger._writer._disconnect()  # a new connection has no such limit
        ledger.finish(record_id, "completed", answer="x" * 200_000)
    with Audit.open(log) as audit:
        assert audit.page(record_id).record.status == "completed"
        assert audit.verify().ok


@pytest.mark.parametrize(
    "place", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "not a url://", "martian://nobody@mars/log"]
)
def test_places_that_cannot_be(place: str) -> None:
    with pytest.raises(errors.StorePlaceError):
        Ledger.open(place)


def test_a_password_is_not_printed() -> None:
    place = Place.of("postgresql://pilot:secret@db.example/log")
    assert "secret" not in place.name
    assert place.path is None


READ = """
import os, sys
import sqlalchemy.dialects.sqlite.pysqlite
from pilothouse.store.audit import Audit
from pilothouse.store.errors import StoreError
from pilothouse.store.ledger import Ledger
if os.geteuid() == 0:
    os.setuid(65534)  # permissions do not bind root
with Audit.open(sys.argv[1]) as audit:
    print(audit.verify().ok, len(audit.summaries()))
for where in (sys.argv[1], sys.argv[1] + ".new"):
    try:
        Ledger.open(where)
    except StoreError as error:
        print(type(error).__name__, error)
"""


def test_a_read_only_folder(ask: Ask, environment: dict[str, str]) -> None:
    """Reading works, writing is refused plainly; run as somebody whom permissions bind."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    with Ledger.open(folder / "log.db", code="test") as ledger:
        ledger.begin(ask("hello"))
    (folder / "log.db").chmod(0o444)
    folder.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", READ, folder / "log.db"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert done.stderr == ""
    read, write, make = done.stdout.splitlines()
    assert read == "True 1"
    assert write.startswith("StoreReadOnlyError")
    assert make.startswith("StoreReadOnlyError")
    assert "read-only; make it writable" in write
