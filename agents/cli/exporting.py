"""`pilothouse log export`: records as JSON Lines, CSV or Parquet, or a record pack for auditors."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from ...store.errors import UsageError
from .logs import Log, Since, Specialist, StatusOption, Text, Thread, Until, filter_of, opened

if TYPE_CHECKING:
    from ...store.audit import Audit, Filter

PACK = "eu-ai-act-art12"
Format = Literal["jsonl", "csv", "parquet", "eu-ai-act-art12"]


def export(
    log: Log = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines, as without --format.")] = False,
    kind: Annotated[
        Format, typer.Option("--format", help="jsonl is exact; csv and parquet are flat; the pack is a ZIP.")
    ] = "jsonl",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file; else standard output.")] = None,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="Leave prompts and answers out.")] = False,
    texts: Annotated[bool, typer.Option("--texts", help="Put prompts and answers in the pack too.")] = False,
    status: StatusOption = None,
    specialist: Specialist = None,
    thread: Thread = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
) -> None:
    """Write the records, oldest first: JSON Lines, CSV, Parquet, or a record pack for auditors.

    The pack (eu-ai-act-art12) holds a period's rows, versions and incidents: documentation, no proof of
    conformity.
    """
    del as_json
    wanted = filter_of(status, specialist, thread, since, until, text)
    with opened(log) as audit:
        if kind == PACK:
            _pack(audit, _required(out, kind), wanted, texts)
            return
        written = _records(audit, wanted, kind, out, not no_texts)
    if out is not None:
        typer.echo(f"{written} records written to {out}", err=True)


def _records(audit: Audit, wanted: Filter, kind: Format, out: Path | None, texts: bool) -> int:
    if kind == "jsonl":
        with _output(out) as stream:
            return audit.export(stream, wanted, texts=texts)
    from ...store.flat import write_csv, write_parquet

    if kind == "parquet":
        return write_parquet(audit.pages(wanted), _required(out, kind), texts)
    with _output(out) as stream:
        return write_csv(audit.pages(wanted), stream, texts)


def _pack(audit: Audit, out: Path, wanted: Filter, texts: bool) -> None:
    if wanted.model_copy(update={"since": None, "until": None}) != type(wanted)():
        raise UsageError("a record pack holds all of a period; give --since and --until, and no other filter")
    from ...store.pack import write_pack

    packed = write_pack(audit, out, wanted.since, wanted.until, texts)
    found = packed.verification
    chain = (
        "the log verifies" if found.ok else f"the log does NOT verify: {found.broken and found.broken.reason}"
    )
    counts = f"{packed.records} records, {packed.rows} rows, {packed.incidents} incidents"
    typer.echo(f"{counts} written to {out}; {chain}", err=True)


def _required(out: Path | None, kind: str) -> Path:
    if out is None:
        raise UsageError(f"--format {kind} writes a file; name it with --out")
    return out


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}; name another file with --out"
        ) from error
