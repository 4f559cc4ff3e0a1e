"""Erasing a conversation erases what it remembers, on disk too."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pilothouse.agents.forgetting import forget_thread
from pilothouse.agents.threads import open_threads

SECRET = "the-parrot-knows-the-code"


def remember(place: Path, thread: str, text: str) -> None:
    threads = open_threads(place)
    checkpoint = {
        "v": 1,
        "id": "1",
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": {"turns": [text]},
        "channel_versions": {},
        "versions_seen": {},
        "updated_channels": None,
    }
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    threads.put(config, checkpoint, {}, {})  # type: ignore[arg-type]
    threads.close()


def rows(place: Path, thread: str) -> int:
    with sqlite3.connect(place) as connection:
        return int(
            connection.execute("SELECT count(*) FROM checkpoints WHERE thread_id = ?", (thread,)).fetchone()[
                0
            ]
        )


def test_a_forgotten_conversation_is_gone_from_the_file_and_others_stay(tmp_path: Path) -> None:
    place = tmp_path / "threads.db"
    remember(place, "mine", SECRET)
    remember(place, "yours", "something else")
    assert any(SECRET.encode() in path.read_bytes() for path in tmp_path.iterdir())
    assert forget_thread("mine", place)
    assert rows(place, "mine") == 0
    assert rows(place, "yours") == 1
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_nothing_to_forget_is_said(tmp_path: Path) -> None:
    assert not forget_thread("nobody", tmp_path / "absent.db")
    remember(tmp_path / "threads.db", "mine", SECRET)
    assert not forget_thread("nobody", tmp_path / "threads.db")
