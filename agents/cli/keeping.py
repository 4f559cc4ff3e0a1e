"""The verbs of `pilothouse log` that keep it by law and move it, from forget to tip."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...store.errors import UsageError
from .logs import Json, Log, moment, opened, print_json

if TYPE_CHECKING:
    from ...store.audit import Audit
    from ...store.moving import Moved
    from ...store.records import Erasure
    from ...store.retention import Retained

Reason = Annotated[str, typer.Option(help="Written in the log.")]
TIP = re.compile(r"\s*[\w-]*:\w*\s*$")  # as it is printed, or nearly: then the fault is told as a tip's
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to a group."""
    for verb in (forget, retain, backup, restore, migrate, tip):
        app.command()(verb)


def forget(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A record: id, part of it, 'last'.")
    ] = None,
    log: Log = None,
    as_json: Json = False,
    thread: Annotated[str | None, typer.Option(help="Every record of this conversation.")] = None,
    person: Annotated[str | None, typer.Option(help="Every record of this person.")] = None,
    reason: Reason = "asked for on the command line",
    yes: Yes = False,
) -> None:
    """Erase the texts of a record, a conversation or a person. The decision rows stay, and so does the chain.

    What the conversations themselves remember is erased too, so they start afresh.
    """
    with opened(log) as audit:
        record = audit.resolve(name) if name is not None else None
        meant = (
            f"record {record}" if record is not None else f"person {person}" if person else f"thread {thread}"
        )
        _confirm(f"Erase the texts of {meant}", yes)
        from ...store.ledger import Ledger
        from ..forgetting import forget_thread

        with Ledger.open(audit.place.where) as ledger:
            erased = ledger.forget(record_id=record, thread_id=thread, person=person, reason=reason)
        for conversation in erased.threads:  # what a conversation remembers holds the same texts
            forget_thread(conversation)
    if as_json:
        print_json(erased.model_dump(mode="json"))
    else:
        _tell_erased(erased, audit)


def _tell_erased(erased: Erasure, audit: Audit) -> None:
    typer.echo(f"{erased.texts_erased} texts of {len(erased.records)} records erased")
    if erased.texts_shared:
        kept = ", ".join(erased.shared_with)
        typer.echo(f"{erased.texts_shared} texts stay, because other records hold them too: {kept}")
    if not erased.scrubbed:
        _tell_traces(audit)


def _tell_traces(audit: Audit) -> None:
    if audit.place.path is not None:
        typer.echo("a reader is at work: old copies leave the write-ahead log when it ends", err=True)
    else:
        typer.echo(
            "the server's write-ahead log and free space hold old copies until it reuses them", err=True
        )


def retain(
    log: Log = None,
    as_json: Json = False,
    content: Annotated[
        str | None, typer.Option(metavar="AGE", help="Erase texts older than this: 30d (or a time).")
    ] = None,
    records: Annotated[
        str | None, typer.Option(metavar="AGE", help="Take whole rows older than this away: 2y.")
    ] = None,
    reason: Reason = "retention",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Yes = False,
) -> None:
    """Let old texts go, and later old rows. The log says so in a row of its own, and still verifies."""
    from ...store.ledger import Ledger
    from ...store.retention import Limits

    limits = Limits(moment(content), moment(records)).checked()
    with opened(log) as audit:
        if not dry_run:
            _confirm("Let them go for good (--dry-run says what)", yes)
        with Ledger.open(audit.place.where) as ledger:
            found = ledger.retain(limits, reason=reason, dry_run=dry_run)
        if not dry_run:
            _forget_threads(audit, limits.texts_before or limits.rows_before)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    typer.echo(_told(found))
    if not found.scrubbed:
        _tell_traces(audit)


def _forget_threads(audit: Audit, before: str | None) -> None:
    """Erase what conversations remember whose every record is older: it is the same texts."""
    from ...store.audit import Filter
    from ..forgetting import forget_thread, kept_threads

    for thread in kept_threads():
        if not audit.summaries(Filter(thread=thread, since=before), limit=1):
            forget_thread(thread)


def _told(found: Retained) -> str:
    if not max(found.texts_through, found.rows_through):
        return "nothing is old enough"
    verb = "would go" if found.dry_run else "went"
    return (
        f"{found.texts_erased} texts of {found.records_bared} records {verb} (all up to row "
        f"{max(found.texts_through, found.rows_through)}); {found.rows_pruned} rows {verb}"
    )


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes; it must not exist.")],
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Copy the log as committed into an SQLite file, while others write; the copy is verified."""
    from ...store.database import Place
    from ...store.moving import backup as copy

    _tell_moved(copy(Place.of(log), target), as_json)


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Make a backup the log, where there is none yet; it is verified first."""
    from ...store.database import Place
    from ...store.moving import restore as put_back

    _tell_moved(put_back(source, Place.of(log)), as_json)


def migrate(
    target: Annotated[str, typer.Argument(metavar="URL", help="An empty database, or a new file.")],
    log: Log = None,
    as_json: Json = False,
) -> None:
    """Copy the log to another database; counts and chain of both are compared. Stop its writers first."""
    from ...store.database import Place
    from ...store.moving import migrate as move

    moved = move(Place.of(log), Place.of(target))
    _tell_moved(moved, as_json)
    if not as_json:
        typer.echo("set PILOTHOUSE_LOG to the new place; the old log is as it was", err=True)


def _tell_moved(moved: Moved, as_json: bool) -> None:
    if as_json:
        print_json(moved.model_dump(mode="json"))
        return
    counts = ", ".join(f"{number} {table}" for table, number in moved.counts.items())
    typer.echo(f"{moved.target}: {counts}")
    typer.echo(f"verified; tip: {moved.verified.tip}")


def tip(
    log: Log = None,
    as_json: Json = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEYFILE", help="Sign with this Ed25519 key (PEM); prints JSON.")
    ] = None,
) -> None:
    """Print the chain's tip, to be kept where the log's writers cannot reach. Verifies nothing."""
    with opened(log) as audit:
        found = audit.tip()
    if sign is not None:
        from ...store.signature import sign as signed

        print_json(signed(found, sign).model_dump(mode="json"))
    elif as_json:
        print_json(found.model_dump(mode="json"))
    else:
        typer.echo(str(found))


def noted_tip(given: str | None, public_key: Path | None) -> str | None:
    """The tip that `--tip` means: as text, or signed, as JSON or in a file, whose signature must hold.

    Raises UsageError for a key without a signed tip, VerifyError for a signature that is not good.
    """
    if given is None or TIP.match(given):
        if public_key is not None:
            raise UsageError(
                "--public-key needs a signed tip: give --tip what `pilothouse log tip --sign` printed"
            )
        return given
    from ...store.signature import checked

    if given.lstrip().startswith("{"):
        return checked(given, public_key)
    try:
        return checked(Path(given).read_text(encoding="utf-8"), public_key)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"tip {given!r} cannot be read; write SEQUENCE:HASH as `pilothouse log verify` prints it, or "
            "name the file of a signed tip"
        ) from error


def _confirm(what: str, yes: bool) -> None:
    """Ask before erasing. Raises UsageError where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}? This cannot be undone; say --yes where nobody can be asked")
    if not typer.confirm(f"{what}? This cannot be undone", err=True):
        raise UsageError("nothing was erased")
