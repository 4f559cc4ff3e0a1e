"""Conversations that survive a restart: LangGraph's SQLite checkpointer in the data folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from ..store.errors import StoreReadOnlyError
from ..store.records import Part
from .forgetting import threads_path

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

PATIENCE_MS = 5000  # to wait for another process


class Threads(SqliteSaver):
    """The checkpointer, keeping each thread's newest state only.

    Every state holds all turns before it, and the log has their history.
    """

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Write a checkpoint, and drop the thread's older ones."""
        saved = super().put(config, checkpoint, metadata, new_versions)
        at = config["configurable"]
        where = (str(at["thread_id"]), str(at.get("checkpoint_ns", "")), checkpoint["id"])
        with self.cursor() as cursor:
            for table in ("checkpoints", "writes"):
                cursor.execute(
                    f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id < ?",
                    where,
                )
        return saved

    def close(self) -> None:
        """Let go of the file."""
        self.conn.close()


def open_threads(path: Path | None = None) -> Threads:
    """Open the conversations (None: in the data folder), making the file if needed.

    Raises StoreReadOnlyError when the folder cannot be written.
    """
    place = path or threads_path()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(place, check_same_thread=False, timeout=PATIENCE_MS / 1000)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")  # what is forgotten is overwritten
        threads = Threads(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=[Part]))
        threads.setup()
    except (OSError, sqlite3.Error) as error:
        raise StoreReadOnlyError(
            f"conversations cannot be kept in {place} ({error}); give PILOTHOUSE_HOME a writable folder, or "
            "use --no-log to keep nothing"
        ) from error
    return threads


def config_of(thread_id: str, **more: Any) -> RunnableConfig:
    """The graph's configuration for a thread."""
    return {"configurable": {"thread_id": thread_id}, **more}  # type: ignore[typeddict-item]
