"""Erase what a conversation remembers. Plain SQLite: `pilothouse log` must load no graph and no torch."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ..store import paths
from ..store.errors import StoreReadOnlyError

PATIENCE_S = 5.0


def threads_path() -> Path:
    """Where conversations are kept: beside the log."""
    return paths.data_dir() / "threads.db"


def kept_threads(path: Path | None = None) -> list[str]:
    """The conversations that are remembered. Raises StoreReadOnlyError when the file cannot be read."""
    place = path or threads_path()
    if not place.exists():
        return []
    try:
        with closing(sqlite3.connect(place, timeout=PATIENCE_S)) as connection:
            return [str(row[0]) for row in connection.execute("SELECT DISTINCT thread_id FROM checkpoints")]
    except sqlite3.Error as error:
        raise StoreReadOnlyError(f"the conversations in {place} cannot be read ({error})") from error


def forget_thread(thread_id: str, path: Path | None = None) -> bool:
    """Erase a conversation's kept turns and overwrite them on disk; return whether there was anything.

    Raises StoreReadOnlyError when the file cannot be written.
    """
    place = path or threads_path()
    if not place.exists():
        return False
    try:
        with closing(sqlite3.connect(place, timeout=PATIENCE_S)) as connection:
            connection.execute("PRAGMA secure_delete=ON")
            found = 0
            for table in ("checkpoints", "writes"):
                found += connection.execute(f"DELETE FROM {table} WHERE thread_id = ?", (thread_id,)).rowcount
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise StoreReadOnlyError(
            f"the conversation {thread_id} could not be erased from {place} ({error}); make it writable, "
            "or delete it: it holds conversations only, the log is another file"
        ) from error
    return found > 0
