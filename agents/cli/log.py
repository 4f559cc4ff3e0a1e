"""`pilothouse log`: list, show, compare, count and verify what the log holds; other verbs join here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...store.errors import VerifyError
from ...store.printable import one_line, visible
from ...store.records import Frozen
from .drift import drift
from .exporting import export
from .keeping import noted_tip, register
from .logs import (
    Json,
    Log,
    Name,
    Since,
    Specialist,
    StatusOption,
    Text,
    Thread,
    Until,
    filter_of,
    opened,
    print_json,
    print_lines,
)
from .replay import replay

if TYPE_CHECKING:  # imported when a verb runs, so that `--help` does not wait for it
    from ...store.audit import Summary

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)


@app.callback()
def log() -> None:
    """List, show and verify the decision log."""


@app.command("list")
def list_records(
    log: Log = None,
    as_json: Json = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    before: Annotated[str | None, typer.Option(metavar="ID", help="Go on where a list ended.")] = None,
    status: StatusOption = None,
    specialist: Specialist = None,
    thread: Thread = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
) -> None:
    """List the newest records."""
    with opened(log) as audit:
        wanted = filter_of(status, specialist, thread, since, until, text)
        start = audit.resolve(before) if before is not None else None
        rows = audit.summaries(wanted, limit=limit, before=start)
        if text and audit.more_texts(text):
            typer.echo("more texts hold these words than a list looks at; export looks at all", err=True)
    if as_json:
        print_lines(rows)
    else:
        _table(("id", "asked", "status", "specialist", "P", "ms", "prompt"), [_cells(row) for row in rows])


@app.command()
def show(name: Name = "last", log: Log = None, as_json: Json = False) -> None:
    """Show one record: what was asked, read, decided, steered and answered."""
    with opened(log) as audit:
        page = audit.page(name)
    if as_json:
        print_json(page.model_dump(mode="json"))
        return
    from .page import page_lines

    for line in page_lines(page):
        typer.echo(line)


@app.command()
def verify(
    log: Log = None,
    as_json: Json = False,
    tip: Annotated[
        str | None,
        typer.Option(
            metavar="SEQUENCE:HASH",
            help="A tip noted earlier (or a file of a signed one): must still be there.",
        ),
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The signed tip must be of this key's holder.")
    ] = None,
) -> None:
    """Recompute the hash chain; exit 4 and name the first broken row if the log was changed.

    The chain shows changes against a tip that was kept elsewhere: note the tip this prints, and give it to
    --tip.
    """
    known = noted_tip(tip, public_key)
    with opened(log) as audit:
        found = audit.verify(known)
        if as_json:
            print_json(found.model_dump(mode="json"))
        elif found.broken is None:
            gone = f" (the first {found.pruned} let go by retention)" if found.pruned else ""
            typer.echo(f"ok: {found.rows} rows{gone}, {found.records} records, {found.texts} texts")
            typer.echo(f"tip: {found.tip}")
        if found.broken is not None:
            row = f"row {found.broken.sequence}" if found.broken.sequence is not None else "the log"
            record = f" (record {found.broken.record_id})" if found.broken.record_id else ""
            raise VerifyError(
                f"{audit.place.name}: {row}{record} is broken: {found.broken.reason}; see a copy, "
                "and trust nothing from that row on"
            )


@app.command()
def stats(
    log: Log = None,
    as_json: Json = False,
    specialist: Specialist = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Count records, by status and by specialist."""
    with opened(log) as audit:
        found = audit.stats(filter_of(None, specialist, None, since, until, None))
        place = audit.place.name
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    by_status = ", ".join(f"{number} {status}" for status, number in found.statuses.items()) or "none"
    typer.echo(
        f"records   {found.records}: {by_status}; {found.multi_part} with several parts, "
        f"{found.erased} erased"
    )
    typer.echo(f"threads   {found.threads}; outcomes {found.outcomes}")
    if found.first is not None:
        typer.echo(f"time      {found.first} to {found.last}")
    if found.total_ms_p50 is not None:
        typer.echo(
            f"latency   {found.total_ms_p50:.0f} ms in the middle, {found.total_ms_p95:.0f} ms for 95 %"
        )
    typer.echo(f"log       {place}, {found.bytes / 1e6:.2f} MB")
    heads = ("specialist", "answers", "forced", "steered", "escalated from", "tokens", "mean P", "mean score")
    _table(heads, [_numbers(row) for row in found.specialists])


@app.command()
def diff(
    left: Name,
    right: Name,
    log: Log = None,
    as_json: Json = False,
    every: Annotated[bool, typer.Option("--all", help="Ids, times and timings too.")] = False,
) -> None:
    """Show where two records differ."""
    with opened(log) as audit:
        found = audit.diff(left, right, every=every)
    if as_json:
        print_lines(found)
        return
    if not found:
        typer.echo("the two records do not differ", err=True)
    _table(("field", left, right), [(row.path, _value(row.left), _value(row.right)) for row in found])


app.command()(replay)
app.command()(export)
app.command()(drift)
register(app)


def _cells(row: Summary) -> tuple[str, ...]:
    status = f"{row.status} (dead)" if row.orphaned else row.status
    belief = f"{row.p_correct:.2f}" if row.p_correct is not None else ""
    prompt = one_line(row.prompt, 60) if row.prompt is not None else "(not kept)"
    # the end of an id names the record too, and leaves room for the prompt
    return (
        row.id[-8:] if sys.stdout.isatty() else row.id,
        row.created_at[:19],
        status,
        "+".join(row.specialists),
        belief,
        f"{row.total_ms:.0f}",
        prompt,
    )


def _numbers(row: Frozen) -> tuple[str, ...]:
    return tuple(_value(value) for value in row.model_dump().values())


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A drawn table on a terminal, tab-separated lines elsewhere; every cell is made safe to print."""
    cells = [[visible(cell, keep="") for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            typer.echo("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Plain

    table = Table(*heads, box=SIMPLE_HEAD, pad_edge=False)
    for row in cells:
        table.add_row(*(Plain(cell) for cell in row))
    Console().print(table)
