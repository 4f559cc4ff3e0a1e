"""What the log's verbs share: their options, the filter these make, JSON on stdout."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import UsageError
from ...store.printable import json_text
from ...store.records import Frozen, Status, normal_time

if TYPE_CHECKING:  # imported when a verb runs, so that `--help` does not wait for it
    from ...store.audit import Audit, Filter

Log = Annotated[str | None, typer.Option("--log", metavar="PATH", help="The log's file or URL.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (lists: JSON Lines).")]
Name = Annotated[str, typer.Argument(metavar="ID", help="An id, its first or last characters, or 'last'.")]
StatusOption = Annotated[Status | None, typer.Option(help="Only records that ended so.")]
Specialist = Annotated[str | None, typer.Option(help="Only records that this specialist answered.")]
Thread = Annotated[str | None, typer.Option(help="Only records of this conversation.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="From then on: 2026-01-31, 2026-01-31T12:00, 7d.")
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")]
Text = Annotated[str | None, typer.Option(metavar="WORDS", help="Only records with all these words (word*).")]

UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}


def opened(log: str | None) -> Audit:
    """The log, opened for reading."""
    from ...store.audit import Audit

    return Audit.open(log)


def filter_of(
    status: Status | None,
    specialist: str | None,
    thread: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
) -> Filter:
    """The filter that these options make."""
    from ...store.audit import Filter

    return Filter(
        status=status,
        specialist=specialist,
        thread=thread,
        since=moment(since),
        until=moment(until),
        text=text,
    )


def moment(text: str | None) -> str | None:
    """Read a time (without a zone: local), or an age such as 7d."""
    if text is None:
        return None
    age = re.fullmatch(r"(\d+)([smhdwy])", text)
    try:
        if age is not None:
            ago = int(age[1]) * UNITS[age[2]]
            return normal_time((datetime.now(UTC) - ago).isoformat())
        return normal_time(datetime.fromisoformat(text).astimezone().isoformat())
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"time {text!r} cannot be read; write 2026-01-31, 2026-01-31T12:00 or an age such as 7d"
        ) from error


def print_lines(rows: Iterable[Frozen]) -> None:
    """JSON Lines: one object a line, for lists."""
    for row in rows:
        typer.echo(json_text(row.model_dump(mode="json")))


def print_json(value: Any) -> None:
    """One JSON value, indented on a terminal."""
    typer.echo(json_text(value, indent=2 if sys.stdout.isatty() else None))
