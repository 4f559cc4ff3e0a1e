"""Records as flat rows: one line a record, for spreadsheets (CSV) and data frames (Parquet).

JSON Lines is the exact export; here, what nests is told of the first part, or written as JSON.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from .errors import StorePlaceError, UsageError
from .records import Decision, Frozen, Generation, Page, Part

CHUNK = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so runs in a spreadsheet


class Column(NamedTuple):
    """A column: its type in Parquet and how to read it from a page."""

    name: str
    type: str
    read: Callable[[Page], Any]
    is_text: bool = False  # somebody's words: left out without texts, never run by a spreadsheet


def _first(page: Page) -> Part:
    return page.record.parts[0] if page.record.parts else Part()


def _decided(read: Callable[[Decision], Any]) -> Callable[[Page], Any]:
    def of(page: Page) -> Any:
        decision = _first(page).decision
        return read(decision) if decision is not None else None

    return of


def _made(read: Callable[[Generation], float]) -> Callable[[Page], Any]:
    """Summed over the parts."""
    return lambda page: sum(read(one.generation) for one in page.record.parts if one.generation is not None)


def _belief(page: Page) -> float | None:
    first = _first(page)
    return next((one.p_correct for one in first.candidates if one.specialist == first.specialist), None)


def _score(page: Page) -> float | None:
    scores = [one.score for one in page.outcomes if one.score is not None]
    return sum(scores) / len(scores) if scores else None


def _json(values: Iterable[Frozen]) -> str:
    return json.dumps([value.model_dump(mode="json") for value in values], ensure_ascii=False)


COLUMNS = (
    Column("id", "string", lambda page: page.record.id),
    Column("thread_id", "string", lambda page: page.record.thread_id),
    Column("parent_id", "string", lambda page: page.record.parent_id),
    Column("created_at", "string", lambda page: page.record.created_at),
    Column("closed_at", "string", lambda page: page.record.closed_at),
    Column("status", "string", lambda page: page.record.status),
    Column("specialists", "string", lambda page: ";".join(page.record.specialists)),
    Column("parts", "int64", lambda page: len(page.record.parts)),
    Column("p_correct", "float64", _belief),
    Column("chosen", "string", _decided(lambda one: one.chosen)),
    Column("propensity", "float64", _decided(lambda one: one.propensity)),
    Column("forced", "bool", _decided(lambda one: one.forced)),
    Column("abstained", "bool", _decided(lambda one: one.abstained)),
    Column("lam", "float64", _decided(lambda one: one.lam)),
    Column("threshold", "float64", _decided(lambda one: one.threshold)),
    Column("reason", "string", _decided(lambda one: one.reason)),
    Column("policy_hash", "string", _decided(lambda one: one.policy_hash)),
    Column("escalations", "int64", lambda page: sum(len(part.hops) for part in page.record.parts)),
    Column("steering", "string", lambda page: ";".join(e.name for e in _first(page).steering.entries)),
    Column("prompt_tokens", "int64", _made(lambda one: one.prompt_tokens)),
    Column("completion_tokens", "int64", _made(lambda one: one.completion_tokens)),
    Column("total_ms", "float64", lambda page: page.record.total_ms),
    Column("outcomes", "int64", lambda page: len(page.outcomes)),
    Column("mean_score", "float64", _score),
    Column("candidates", "string", lambda page: _json(_first(page).candidates)),
    Column("readings", "string", lambda page: _json(_first(page).readings)),
    Column("prompt", "string", lambda page: page.prompt, is_text=True),
    Column("answer", "string", lambda page: page.answer, is_text=True),
    Column("redacted", "bool", lambda page: page.redacted),
    Column("erased_at", "string", lambda page: page.erased_at),
    Column("code_version", "string", lambda page: page.record.code_version),
    Column("sequence", "int64", lambda page: page.record.sequence),
    Column("row_hash", "string", lambda page: page.record.row_hash),
)


def columns(texts: bool) -> list[Column]:
    """The columns, with or without prompts and answers."""
    return [column for column in COLUMNS if texts or not column.is_text]


def write_csv(pages: Iterable[Page], out: TextIO, texts: bool = True) -> int:
    """Write a header and one line a record; return how many. A cell that a spreadsheet would run as a formula
    gets an apostrophe in front.
    """
    shown = columns(texts)
    writer = csv.writer(out)
    writer.writerow([column.name for column in shown])
    written = 0
    for page in pages:
        writer.writerow([_cell(column.read(page)) for column in shown])
        written += 1
    return written


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


def write_parquet(pages: Iterator[Page], path: Path, texts: bool = True) -> int:
    """Write a Parquet file; return how many records. Raises UsageError where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow; install it: pip install 'pilothouse[parquet]'") from error
    shown = columns(texts)
    schema = pyarrow.schema([(column.name, getattr(pyarrow, _ARROW[column.type])()) for column in shown])
    written = 0
    try:
        with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            while chunk := list(islice(pages, CHUNK)):
                arrays = {column.name: [column.read(page) for page in chunk] for column in shown}
                writer.write_table(pyarrow.table(arrays, schema=schema))
                written += len(chunk)
    except OSError as error:
        raise StorePlaceError(f"{path} cannot be written ({error}); name another file") from error
    return written


_ARROW = {"string": "string", "int64": "int64", "float64": "float64", "bool": "bool_"}
