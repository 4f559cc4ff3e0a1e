"""What `bench service` concludes, held against planted faults: it must see them, and only them."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from pilothouse.bench.service.breaking import FULL, STEP, counted
from pilothouse.bench.service.client import Client, Reply
from pilothouse.bench.service.soaking import growth, without_rows
from pilothouse.bench.service.wire import wire
from pilothouse.bench.serving import free_port
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Message, Request


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path


def answered(home: Path, count: int) -> list[Reply]:
    with Ledger.open(home / "data" / "log.db", code="test") as ledger:
        names = [
            ledger.begin(Request(messages=(Message(role="user", content=str(n)),))) for n in range(count)
        ]
        for name in names:
            ledger.finish(name, "completed", answer="x")
    return [Reply(200, name) for name in names]


def test_nothing_lost_is_nothing_lost(home: Path) -> None:
    replies = answered(home, 3)
    found = counted([*replies, Reply(503), Reply(0)], home / "data" / "log.db", 1)
    assert found.whole
    assert (found.replies[200], found.replies[503], found.replies[0]) == (3, 1, 1)
    assert without_rows(home, [reply.record_id for reply in replies]) == 0
    assert not counted(replies, home / "data" / "log.db", 1, again=False).whole


def test_a_lost_answer_is_seen(home: Path) -> None:
    replies = [*answered(home, 3), Reply(200, "0" * 32)]
    found = counted(replies, home / "data" / "log.db", 1)
    assert (found.lost, found.whole) == (1, False)
    assert without_rows(home, [reply.record_id for reply in replies]) == 1


def test_a_broken_chain_is_seen(home: Path) -> None:
    replies = answered(home, 3)
    with closing(sqlite3.connect(home / "data" / "log.db")) as connection, connection:
        connection.execute("DROP TRIGGER events_keep")
        connection.execute("UPDATE events SET status = 'failed' WHERE sequence = 4")
    found = counted(replies, home / "data" / "log.db", 1)
    assert found.chain != "ok"
    assert not found.whole


def test_growth_is_that_after_the_warm_up() -> None:
    assert growth([50, 80, *[100] * 10])[1] == pytest.approx(0)
    assert growth([10, 10, 100, 100, 110, 120, 130, 140, 150, 150])[1] == pytest.approx(0.5)
    assert growth([100])[1] == 0


def test_the_planted_faults_are_python() -> None:
    for code in (FULL, STEP):
        compile(code, "planted", "exec")


def test_a_service_that_is_not_there_is_no_answer() -> None:
    with closing(Client(free_port(), 0, timeout=2.0)) as client:
        assert client.ask() == Reply(0)
        assert client.ask(stream=True, leave=True) == Reply(0)


def test_a_wire_passes_on_is_cut_dies_and_is_mended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=echo, args=(server,), daemon=True).start()
        with wire(server.getsockname()[1]) as between:

            def call() -> socket.socket:
                return socket.create_connection(("127.0.0.1", between.port), timeout=5)

            with call() as line:
                assert said(line, b"one") == b"one"
                between.die()
                line.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    said(line, b"two")
                between.mend()
                line.settimeout(5)
                assert line.recv(9) == b"two"  # held, not lost
                between.cut()
                assert said(line, b"three") == b""
            with call() as line:
                assert said(line, b"four") == b""
            between.mend()
            with call() as line:
                assert said(line, b"five") == b"five"


def echo(server: socket.socket) -> None:
    while True:
        try:
            line, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=repeat, args=(line,), daemon=True).start()


def repeat(line: socket.socket) -> None:
    with line, contextlib.suppress(OSError):
        while words := line.recv(99):
            line.sendall(words)


def said(line: socket.socket, words: bytes) -> bytes:
    try:
        line.sendall(words)
        return line.recv(9)
    except ConnectionError:
        return b""
