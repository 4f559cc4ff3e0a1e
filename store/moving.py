"""Copy a whole log: back it up, restore it, move it to another database. Every copy is verified."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Table, func, insert, select

from . import sqlite
from .audit import Audit
from .database import Place, ensure_schema
from .errors import StorePlaceError, UsageError, VerifyError
from .events import lock_chain
from .records import Count, Frozen
from .tables import artifacts, content, content_uses, events, listing, meta, people, running
from .verify import Verification, verify

CHUNK = 1000  # rows in one statement
# a text before its uses; `meta` is made by the schema, so it is filled up, not copied
TABLES = (content, content_uses, artifacts, events, listing, people, running)


class Moved(Frozen):
    """A finished copy: where it lies, rows by table (the same in both), and what verifying it found."""

    target: str
    counts: dict[str, Count]
    verified: Verification


def backup(source: Place, target: Path) -> Moved:
    """Copy the log as committed into an SQLite file, while others write, and verify the copy.

    Raises UsageError when the file exists, VerifyError when the copy does not verify.
    """
    if target.exists():
        raise UsageError(f"{target} exists already; name a file that does not")
    if source.path is None:
        return migrate(source, Place.of(target))
    with source.plainly():
        source.reading_engine().dispose()  # says plainly when there is no log
        _copy_file(source.path, target)
    return _verified(target)


def restore(source: Path, target: Place) -> Moved:
    """Make the backup `source` the log at `target`, where there must be none yet; the copy is verified first.

    Raises UsageError when there is a log, VerifyError when the backup does not verify.
    """
    if target.path is None:
        return migrate(Place.of(source), target)
    if target.path.exists():
        raise UsageError(f"there is a log at {target.path} already; move it away first, to keep it")
    part = target.path.with_name(f".{target.path.name}.restoring")
    part.unlink(missing_ok=True)
    sqlite.prepare_file(part)
    part.unlink()
    origin = Place.of(source)
    try:
        with origin.plainly():
            origin.reading_engine().dispose()
            _copy_file(source, part)
        moved = _verified(part)
        part.rename(target.path)
    finally:
        for name in ("", "-wal", "-shm"):
            part.with_name(part.name + name).unlink(missing_ok=True)
    return moved.model_copy(update={"target": target.name})


def _copy_file(source: Path, target: Path) -> None:
    try:
        sqlite.backup(source, target)
    except OSError as error:
        raise StorePlaceError(f"{target} cannot be written ({error.strerror}); name another file") from error


def _verified(target: Path) -> Moved:
    with Audit.open(target) as copy:
        found = copy.verify()
        if found.broken is not None:
            raise VerifyError(f"the copy {target} does not verify: {found.broken.reason}")
        with copy.reading() as connection:
            counts = _counts(connection)
    return Moved(target=str(target), counts=counts, verified=found)


def migrate(source: Place, target: Place) -> Moved:
    """Copy every row from one database to another, then compare counts and chain; all of it or nothing.

    One state of the source is copied; what is written there meanwhile is not, so stop its writers first.

    Raises UsageError when the target holds records already, VerifyError when the source does not verify or
    the copy differs.
    """
    with Audit.open(source.where, patience=source.patience) as audit, audit.reading() as old:
        found = verify(old)
        if found.broken is not None:
            raise VerifyError(
                f"the log {source.name} does not verify: {found.broken.reason}; it was not copied"
            )
        with target.plainly():
            engine = target.writing_engine()
            try:
                ensure_schema(target, engine)
                with engine.connect() as new, new.begin():
                    return _fill(old, new, found, target)
            finally:
                engine.dispose()


def _fill(old: Connection, new: Connection, found: Verification, target: Place) -> Moved:
    lock_chain(new)
    if new.scalars(select(func.count()).select_from(events)).one():
        raise UsageError(f"the log {target.name} holds records already; name an empty place")
    for table in TABLES:
        _copy(old, new, table)
    known = set(new.scalars(select(meta.c.key)))
    for row in old.execute(select(meta)).mappings():
        if row["key"] not in known:
            new.execute(insert(meta), dict(row))
    counts, copied = _counts(new), verify(new)
    if counts != _counts(old) or copied != found:
        raise VerifyError(f"the copy in {target.name} differs from its source; it was taken back")
    return Moved(target=target.name, counts=counts, verified=copied)


def _copy(old: Connection, new: Connection, table: Table) -> None:
    columns = [column for column in table.c if (table.name, column.name) != ("content", "id")]
    query = select(*columns).execution_options(yield_per=CHUNK)
    with old.execute(query) as rows:
        for part in rows.mappings().partitions():
            new.execute(insert(table), [dict(row) for row in part])


def _counts(connection: Connection) -> dict[str, int]:
    return {table.name: connection.scalars(select(func.count()).select_from(table)).one() for table in TABLES}
