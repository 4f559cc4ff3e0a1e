"""The write side of the log.

A record is opened before anything is generated and finished before its answer is shown; both rows are on
disk when the call returns. Rows are only ever added. Any number of processes may write to one log at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Engine, select

from . import erasure, payloads, retention, sqlite
from .database import PATIENCE, Place, disposed_on_failure, ensure_schema, scrub
from .errors import NotFoundError, StoreClosedError
from .events import Batch, Draft, History, rows_of
from .process import Process, is_gone, this_process
from .reading import pages
from .records import Artifact, Erasure, Outcome, Page, Part, Request, Status, new_id
from .redact import redactor
from .sinks import Sink, Telling, Told, telling
from .tables import running
from .version import code_version
from .writer import Writer

logger = logging.getLogger(__name__)
GONE = "the process that was answering ended before it finished"


class Ledger:
    """An open log. Use it in a `with` statement, or call `close`. Safe to use from any thread.

    `notes` says plainly what is not as it should be: a journal other than WAL, a log that was migrated.
    """

    def __init__(
        self,
        place: Place,
        engine: Engine,
        code: str,
        keep_text: bool,
        redact: payloads.Redact | None = None,
    ) -> None:
        self.place = place
        self.notes: tuple[str, ...] = ()
        self._engine = engine
        self._code = code
        self.keep_text = keep_text
        self._redact = redact
        self._process = this_process()
        self._writer = Writer(place, engine)
        self._reading: Engine | None = None
        self._telling: Telling | None = None

    @classmethod
    def open(
        cls,
        where: str | Path | None = None,
        *,
        code: str | None = None,
        keep_text: bool = True,
        redact: payloads.Redact | None = None,
        patterns: Sequence[str] = (),
        patience: float = PATIENCE,
        sinks: Sequence[str | Sink] = (),
    ) -> Self:
        """Open the log at a path or URL (None: PILOTHOUSE_LOG, or the data folder), making or migrating it.

        `code` is written on every record (None: `code_version()`). With `keep_text` off, only digests of
        the texts are kept. `redact` changes every text before it is written, then each match of `patterns`
        (regular expressions) is masked; the digests are those of the changed texts. `patience` is how many
        seconds to wait for another process's lock. Records that a dead process left open are closed as
        aborted. `sinks`, by name or open, are told of every record that is closed here, and are closed with
        the log.

        Raises StoreError (a subclass says which) when there can be no log there, UsageError for a pattern
        that cannot be read or an unknown sink, PluginError for one that cannot be opened.
        """
        hook = redactor(patterns, redact)
        place = Place.of(where, patience)
        with place.plainly():
            engine = place.writing_engine()
            with disposed_on_failure(engine):
                copy = ensure_schema(place, engine)
        ledger = cls(place, engine, code or code_version(), keep_text, hook)
        try:
            ledger._take_notes(copy)
            ledger._telling = telling(sinks, ledger._pages)
            ledger.recover()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _take_notes(self, copy: Path | None) -> None:
        notes = []
        if copy is not None:
            notes.append(f"the log {self.place.name} was brought up to date; a copy as it was is {copy}")
        mode = self._writer.submit(sqlite.journal_mode).result() if self.place.path is not None else "wal"
        if mode != "wal":
            notes.append(
                f"the log {self.place.name} cannot use write-ahead logging (SQLite kept {mode!r}): "
                "it works, but readers and writers wait for each other; a local disk would help"
            )
        self.notes = tuple(notes)
        for note in notes:
            logger.warning(note)

    def begin(self, request: Request, *, record_id: str | None = None, parent_id: str | None = None) -> str:
        """Write that `request` arrived, and return the record's id once that is on disk."""
        return self.begin_soon(request, record_id=record_id, parent_id=parent_id).result()

    def begin_soon(
        self, request: Request, *, record_id: str | None = None, parent_id: str | None = None
    ) -> Future[str]:
        """Like `begin`, without waiting: the future answers once the row is on disk.

        Choose `record_id` (`new_id()`) to know the id at once. `parent_id` is the record that this one
        retries.
        """
        name = record_id or new_id()
        extra = {
            "parent_id": parent_id,
            "code_version": self._code,
            "process": self._process.model_dump(mode="json"),
        }
        event = payloads.opened(request, name, extra, self.keep_text, self._redact)
        draft = Draft(event, opens=self._process, person=request.person)

        def work(batch: Batch) -> str:
            if batch.history(name).kinds:
                raise StoreClosedError(f"record {name} is in the log already; a new request needs a new id")
            batch.add(draft)
            return name

        return self._writer.submit_row(name, work)

    def finish(
        self,
        record_id: str,
        status: Status,
        *,
        parts: Iterable[Part] = (),
        answer: str | None = None,
        artifacts: Iterable[Artifact] = (),
        error: str | None = None,
    ) -> int:
        """Write how the record ended, and return the row's sequence number once that is on disk.

        `answer` is the text shown to the user: the composed one when there are several parts.

        Raises NotFoundError for a record never begun, StoreClosedError for one finished before, ValueError
        for a part with invalid fields.
        """
        return self.finish_soon(
            record_id, status, parts=parts, answer=answer, artifacts=artifacts, error=error
        ).result()

    def finish_soon(
        self,
        record_id: str,
        status: Status,
        *,
        parts: Iterable[Part] = (),
        answer: str | None = None,
        artifacts: Iterable[Artifact] = (),
        error: str | None = None,
    ) -> Future[int]:
        """Like `finish`, without waiting. Release the last token only when the future has answered."""
        if status == "in_progress":
            raise ValueError("a record is finished as completed, abstained, failed or aborted")
        given = (record_id, "", status, tuple(parts), answer, tuple(artifacts), error)
        whole, rows = payloads.closed(*given, self.keep_text, self._redact), rows_of(given[5])

        def work(batch: Batch) -> int:
            known = self._known(batch, record_id)
            if "closed" in known.kinds:
                raise StoreClosedError(f"record {record_id} is finished already; a row is never rewritten")
            made = payloads.closed(*given, False, self._redact) if "erased" in known.kinds else whole
            made = made._replace(thread_id=known.thread_id or "")
            return batch.add(Draft(made, artifacts=rows, closes=True))

        done = self._writer.submit_row(record_id, work)
        if (told := self._telling) is not None:
            done.add_done_callback(lambda end: told.tell(record_id) if end.exception() is None else None)
        return done

    def _pages(self, names: Sequence[str]) -> list[Page]:
        """Records as the log has them; called from the thread that tells sinks."""
        with self.place.plainly():
            self._reading = self._reading or self.place.reading_engine()
            with self._reading.connect() as connection:
                return pages(connection, names)

    @property
    def told(self) -> Mapping[str, Told]:
        """What each sink took and missed so far."""
        return self._telling.told if self._telling is not None else {}

    def _known(self, batch: Batch, record_id: str) -> History:
        known = batch.history(record_id)
        if known.thread_id is None:
            raise NotFoundError(f"record {record_id} is not in the log {self.place.name}: it was never begun")
        return known

    def note(self, outcome: Outcome) -> int:
        """Add what was learned later about a record. Raises NotFoundError for an unknown one."""
        return self.note_soon(outcome).result()

    def note_soon(self, outcome: Outcome) -> Future[int]:
        """Like `note`, without waiting."""
        name = outcome.record_id
        whole = payloads.outcome(outcome, "", self.keep_text, self._redact)

        def work(batch: Batch) -> int:
            known = self._known(batch, name)
            made = (
                whole if "erased" not in known.kinds else payloads.outcome(outcome, "", False, self._redact)
            )
            return batch.add(Draft(made._replace(thread_id=known.thread_id or "")))

        return self._writer.submit_row(name, work)

    def forget(
        self,
        *,
        record_id: str | None = None,
        thread_id: str | None = None,
        person: str | None = None,
        reason: str = "asked for",
    ) -> Erasure:
        """Erase the texts of one record, or of every record of a thread or a person; the rows stay, the chain
        stays valid. `reason` is written in the log, so it should not name the person.

        A text that another record holds too (an earlier turn of the conversation, a common answer) stays
        for that record; the answer says which. Raises NotFoundError when there is no such record, thread or
        person.
        """
        erased = self._writer.submit(
            lambda connection: erasure.erase(connection, record_id, thread_id, reason, person)
        ).result()
        return erased.model_copy(update={"scrubbed": self._scrub()})

    def retain(
        self, limits: retention.Limits, *, reason: str = "retention", dry_run: bool = False
    ) -> retention.Retained:
        """Let texts, and later whole rows, go that are older than `limits`; writers go on meanwhile.

        The log says so in a row of its own and still verifies. Raises UsageError when rows would go before
        their texts.
        """
        done = retention.retain(lambda work: self._writer.submit(work).result(), limits, reason, dry_run)
        return done if dry_run else done.model_copy(update={"scrubbed": self._scrub()})

    def _scrub(self) -> bool:
        with self.place.plainly(), self._engine.connect() as connection:
            return scrub(connection)

    def recover(self) -> tuple[str, ...]:
        """Close, as aborted, the records whose process has ended without finishing them; return their ids."""
        left = self._writer.submit(lambda c: c.execute(select(running)).mappings().all()).result()
        gone = [
            str(row["record_id"])
            for row in left
            if is_gone(Process(host=row["host"], pid=row["pid"], started=row["started"]))
        ]
        return tuple(name for name in gone if self._abort(name))

    def _abort(self, record_id: str) -> bool:
        try:
            self.finish(record_id, "aborted", error=GONE)
        except StoreClosedError:  # another process recovered it in the meantime
            return False
        return True

    def close(self) -> None:
        """Write what waits, and let go of the log. A second call does nothing."""
        self._writer.close()
        if self._telling is not None:
            self._telling.close()
        for engine in (self._engine, self._reading):
            if engine is not None:
                engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
