"""Who is told of every closed record, once it is on disk: a collector of lines, of spans, of whatever a
package brings.

The log is the record; a sink only watches. It gets the record's page as the log has it (redacted, without
texts where none are kept), from a thread of its own: one that is slow, fails or hangs costs no answer, and
what it missed is counted and warned about.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TextIO

from .errors import PilothouseError
from .plugins import Group
from .printable import json_text
from .records import Page
from .waiting import together

logger = logging.getLogger(__name__)
SINKS = Group("pilothouse.sinks", "sink")
MOST, TOGETHER, PATIENCE = 4096, 64, 5.0  # records that wait, that are read at once; seconds to end in


class Sink(Protocol):
    """What an entry of `pilothouse.sinks` gives when it is called without arguments."""

    def closed(self, page: Page) -> None:
        """Take a record that was completed, abstained, failed or aborted. Never called from two threads."""

    def close(self) -> None:
        """Send what waits, and let go."""


class Told(NamedTuple):
    """How many records a sink took, failed to take, and was never shown because too many waited."""

    taken: int = 0
    failed: int = 0
    dropped: int = 0


def open_sinks(wanted: Sequence[str | Sink]) -> dict[str, Sink]:
    """Open sinks by name; one that is given open is called after its class.

    Raises UsageError for an unknown name, PluginError for one that is broken.
    """
    found: dict[str, Sink] = {}
    try:
        for one in wanted:
            found[one if isinstance(one, str) else type(one).__name__] = (
                SINKS.make(one) if isinstance(one, str) else one
            )
    except BaseException:
        for sink in found.values():
            sink.close()
        raise
    return found


class Lines:
    """One JSON line a record on standard error, without texts: what a container's collector reads."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out

    def closed(self, page: Page) -> None:
        """Write the line."""
        record = page.record
        line = {
            "record_id": record.id,
            "thread_id": record.thread_id,
            "created_at": record.created_at,
            "closed_at": record.closed_at,
            "status": record.status,
            "specialists": list(record.specialists),
            "total_ms": round(record.total_ms, 3),
            "sequence": record.sequence,
            "row_hash": record.row_hash,
        }
        print(json_text(line), file=self._out or sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing waits."""


class Telling:
    """The thread that tells sinks. `read` gives the pages of record ids, as the log has them."""

    def __init__(
        self, sinks: Mapping[str, Sink], read: Callable[[Sequence[str]], list[Page]], most: int = MOST
    ) -> None:
        self._sinks, self._read = dict(sinks), read
        self._waiting: queue.Queue[str | None] = queue.Queue(most)
        self._told = dict.fromkeys(self._sinks, Told())
        self._counting = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="pilothouse-sinks", daemon=True)
        self._thread.start()

    @property
    def told(self) -> Mapping[str, Told]:
        """What each sink took and missed so far."""
        with self._counting:
            return dict(self._told)

    def tell(self, record_id: str) -> None:
        """Called once the record's last row is on disk; never waits, never raises."""
        try:
            self._waiting.put_nowait(record_id)
        except queue.Full:
            for name in self._sinks:
                self._count(name, dropped=1, why="it does not keep up")

    def close(self) -> None:
        """Tell what waits, as far as that takes no longer than `PATIENCE`, then close the sinks."""
        if self._over:
            return
        self._over = True
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=PATIENCE)
        self._thread.join(PATIENCE)
        left = self._waiting.qsize()
        for name, sink in self._sinks.items():
            if self._thread.is_alive():
                self._count(name, dropped=max(1, left), why="the log was closed before it had taken them")
            try:
                sink.close()
            except Exception as error:
                logger.warning("the sink %r could not be closed (%s: %s)", name, type(error).__name__, error)

    def _run(self) -> None:
        while names := together(self._waiting, TOGETHER):
            try:
                pages = self._read(names)
            except PilothouseError as error:
                for sink in self._sinks:
                    self._count(sink, failed=len(names), why=f"the log could not be read: {error}")
                continue
            for page in pages:
                self._show(page)

    def _show(self, page: Page) -> None:
        for name, sink in self._sinks.items():
            try:
                sink.closed(page)
            except Exception as error:
                self._count(name, failed=1, why=type(error).__name__)  # its words may quote a text
            else:
                self._count(name, taken=1)

    def _count(self, name: str, why: str = "", **more: int) -> None:
        """Add to a sink's counts; warn of the first record that it misses, and of every thousandth."""
        with self._counting:
            old = self._told[name]
            new = self._told[name] = Told(*(getattr(old, key) + more.get(key, 0) for key in Told._fields))
        missed, before = new.failed + new.dropped, old.failed + old.dropped
        if missed > before and (before == 0 or missed // 1000 > before // 1000):
            logger.warning("the sink %r missed %d records (%s); the log has them all", name, missed, why)


def telling(wanted: Sequence[str | Sink], read: Callable[[Sequence[str]], list[Page]]) -> Telling | None:
    """Open sinks and the thread that tells them; None where none is wanted. Raises as `open_sinks`."""
    return Telling(open_sinks(wanted), read) if wanted else None
