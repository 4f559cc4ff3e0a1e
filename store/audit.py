"""The read side of the log: list, show, compare, count, verify, export. Reading changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from sqlalchemy import Connection, Engine, Select, and_, func, or_, select

from .compare import Difference, differences
from .database import HEAD, PATIENCE, Place, bring_up, disposed_on_failure, matching, revision
from .errors import NotFoundError, UsageError
from .events import tip as last_row
from .listing import Filter as Filter
from .listing import more_texts, newest
from .printable import json_text
from .reading import pages
from .records import Count, Frozen, Page, Probability, Status, Time
from .stats import Stats, count
from .tables import content, content_uses, events, people
from .verify import Tip, Verification, verify

CHUNK = 200  # pages read at once
SHORTEST = 4  # characters that an abbreviated id needs

opened = events.alias("opened")
closed = events.alias("closed")


class Summary(Frozen):
    """One line of the list. `p_correct` is that of the first part's specialist; `total_ms` sums the parts.

    `orphaned` marks a record in progress whose process has ended.
    """

    id: str
    thread_id: str
    created_at: Time
    closed_at: Time | None
    status: Status
    specialists: tuple[str, ...]
    p_correct: Probability | None
    total_ms: float
    parts: Count
    prompt: str | None
    orphaned: bool


class Audit:
    """An open log, for reading. Use it in a `with` statement, or call `close`."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self.place = place
        self._engine = engine

    @classmethod
    def open(cls, where: str | Path | None = None, *, patience: float = PATIENCE) -> Self:
        """Open the log at a path or URL (None: PILOTHOUSE_LOG, or the data folder).

        A log of an older schema is brought up to date first, a copy being kept beside it.

        Raises StoreMissingError when there is none, StoreVersionError for one newer than this program, other
        StoreErrors for one that cannot be read.
        """
        place = Place.of(where, patience)
        with place.plainly():
            engine = place.reading_engine()
            with disposed_on_failure(engine):
                with engine.connect() as connection:
                    found = revision(connection)
                place.require_schema(found)
                if found != HEAD:
                    bring_up(place)
        return cls(place, engine)

    def summaries(
        self, wanted: Filter | None = None, *, limit: int = 50, before: str | None = None
    ) -> list[Summary]:
        """The newest `limit` records first; `before` is a record's id, to go on where a list ended."""
        return [summary(page) for page in self.latest(wanted, limit=limit, before=before)]

    def latest(
        self, wanted: Filter | None = None, *, limit: int = 50, before: str | None = None
    ) -> list[Page]:
        """Like `summaries`, the whole pages."""
        with self.reading() as connection:
            return pages(connection, newest(connection, wanted or Filter(), limit, before))

    def more_texts(self, words: str) -> bool:
        """Whether more texts hold the words than `latest` and `summaries` look at."""
        with self.reading() as connection:
            return more_texts(connection, words)

    def resolve(self, name: str) -> str:
        """The full id that `name` means: an id, its first or last characters, or `last` for the newest
        record.

        Raises NotFoundError when nothing is meant, UsageError when it could mean several.
        """
        with self.reading() as connection:
            return _resolve(connection, name, self.place.name)

    def page(self, name: str) -> Page:
        """The record that `name` means (see `resolve`), with its texts and outcomes."""
        with self.reading() as connection:
            return pages(connection, [_resolve(connection, name, self.place.name)])[0]

    def pages(self, wanted: Filter | None = None) -> Iterator[Page]:
        """Every record that fits, oldest first, all from one state of the log; holds a few hundred at a
        time.
        """
        with self.reading() as connection:
            query = _matching_records(wanted or Filter()).add_columns(opened.c.sequence)
            if wanted is not None and wanted.text:
                query = query.where(_holding(connection, wanted.text))
            last = 0
            while True:
                chunk = query.where(opened.c.sequence > last).order_by(opened.c.sequence).limit(CHUNK)
                rows = connection.execute(chunk).all()
                if not rows:
                    return
                yield from pages(connection, [row[0] for row in rows])
                last = rows[-1][1]

    def thread(self, thread_id: str) -> tuple[Page, ...]:
        """A conversation's records, oldest first. Raises NotFoundError for an unknown thread."""
        found = tuple(self.pages(Filter(thread=thread_id)))
        if not found:
            raise NotFoundError(f"there is no thread {thread_id!r} in the log {self.place.name}")
        return found

    def diff(self, left: str, right: str, *, every: bool = False) -> tuple[Difference, ...]:
        """Where two records differ; ids, times and timings are left out unless `every`."""
        return differences(self.page(left), self.page(right), every)

    def stats(self, wanted: Filter | None = None) -> Stats:
        """Counts over the records that fit."""
        with self.reading() as connection:
            size = self.place.size(connection)
        return count(self.pages(wanted), size)

    def verify(self, tip: str | None = None) -> Verification:
        """Recompute the chain and every digest; with `tip` (`SEQUENCE:HASH`), check that the log still
        holds it.
        """
        known = Tip.read(tip) if tip is not None else None
        with self.reading() as connection:
            return verify(connection, known)

    def tip(self) -> Tip:
        """The last row's place and hash, unchecked: one look-up."""
        with self.reading() as connection:
            sequence, row_hash = last_row(connection)
        return Tip(sequence=sequence, row_hash=row_hash)

    def export(self, out: TextIO, wanted: Filter | None = None, *, texts: bool = True) -> int:
        """Write one JSON object a line, oldest record first; return how many. `texts` off leaves prompts
        out.
        """
        written = 0
        for page in self.pages(wanted):
            body = page if texts else without_texts(page)
            out.write(json_text(body.model_dump(mode="json")) + "\n")
            written += 1
        return written

    def close(self) -> None:
        """Let go of the log."""
        self._engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one unchanging state of the log."""
        with self.place.plainly(), self._engine.connect() as connection:
            yield connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def summary(page: Page) -> Summary:
    """The list's line for a page."""
    record = page.record
    first = record.parts[0] if record.parts else None
    beliefs = {c.specialist: c.p_correct for c in first.candidates} if first is not None else {}
    return Summary(
        id=record.id,
        thread_id=record.thread_id,
        created_at=record.created_at,
        closed_at=record.closed_at,
        status=record.status,
        specialists=record.specialists,
        p_correct=beliefs.get(first.specialist or "") if first is not None else None,
        total_ms=record.total_ms,
        parts=len(record.parts),
        prompt=page.prompt,
        orphaned=page.orphaned,
    )


def without_texts(page: Page) -> Page:
    """The page as it would be had its texts been erased."""
    bare = {"prompt": None, "answer": None}
    parts = tuple(
        part.model_copy(
            update={**bare, "hops": tuple(hop.model_copy(update={"answer": None}) for hop in part.hops)}
        )
        for part in page.record.parts
    )
    record = page.record.model_copy(update={"parts": parts, "error": None})
    return page.model_copy(update={**bare, "messages": (), "record": record})


def _matching_records(wanted: Filter) -> Select[Any]:
    """Ids of the records that fit, but for the text."""
    query = (
        select(opened.c.record_id)
        .outerjoin(closed, and_(closed.c.record_id == opened.c.record_id, closed.c.kind == "closed"))
        .where(opened.c.kind == "opened")
    )
    if wanted.status is not None:
        query = query.where(func.coalesce(closed.c.status, opened.c.status) == wanted.status)
    if wanted.specialist is not None:
        query = query.where(closed.c.specialists.contains(f",{wanted.specialist},", autoescape=True))
    if wanted.thread is not None:
        query = query.where(opened.c.thread_id == wanted.thread)
    if wanted.person is not None:
        theirs = select(people.c.record_id).where(people.c.person == wanted.person)
        query = query.where(opened.c.record_id.in_(theirs))
    if wanted.since is not None:
        query = query.where(opened.c.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(opened.c.created_at < wanted.until)
    return query


def _holding(connection: Connection, words: str) -> Any:
    """A condition: one of the record's texts holds the words."""
    if not words.strip():
        raise UsageError("the text to search for is empty; give a word")
    holders = (
        select(content_uses.c.record_id)
        .join(content, content.c.sha256 == content_uses.c.sha256)
        .where(matching(connection, words))
    )
    return opened.c.record_id.in_(holders)


def _resolve(connection: Connection, name: str, log: str) -> str:
    ids = (
        select(opened.c.record_id)
        .where(opened.c.kind == "opened")
        .order_by(opened.c.sequence.desc())
        .limit(3)
    )
    if name == "last":
        newest = connection.scalars(ids).first()
        if newest is None:
            raise NotFoundError(f"the log {log} is empty; ask something first")
        return str(newest)
    if len(name) < SHORTEST:
        raise UsageError(
            f"record {name!r} is too short; give at least {SHORTEST} characters of its id, or 'last'"
        )
    exact = connection.scalars(ids.where(opened.c.record_id == name)).first()
    if exact is not None:
        return str(exact)
    starts = opened.c.record_id.startswith(name, autoescape=True)
    ends = opened.c.record_id.endswith(name, autoescape=True)
    # SQLite ends a pattern at a NUL, so such a name would fit every id
    found = connection.scalars(ids.where(or_(starts, ends))).all() if "\0" not in name else []
    if not found:
        raise NotFoundError(f"there is no record {name!r} in the log {log}; see `pilothouse log list`")
    if len(found) > 1:
        raise UsageError(f"record {name!r} could mean {', '.join(found)}; give more characters of its id")
    return str(found[0])
