"""Read a labelled table from CSV, JSON Lines or Parquet; `.gz` is unpacked.

Long form: one row a prompt and model. Columns: `prompt` (or `messages`: a list of {role, content}, in CSV as
JSON), `model`, `correct` (0/1, true/false) or `score` (0 to 1), and if wanted `cost`, `latency`, `group`,
`split`, `time`, and any `signal_NAME`: a number that came with the answer, for cascades. Wide form: the
models are named, and each has a column of labels.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from ...store.errors import NotFoundError, UsageError
from ...store.records import Message
from .table import Table

COLUMNS = ("prompt", "messages", "model", "correct", "score", "cost", "latency", "group", "split", "time")
SIGNAL = "signal_"
_TRUTHS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
_ROLES = ("system", "user", "assistant")
Row = Mapping[str, Any]


def read_table(path: Path | str, wide: Sequence[str] = ()) -> Table:
    """Read a table; `wide` names the columns that are models (else the table is in long form).

    Raises:
        NotFoundError: there is no such file.
        UsageError: a column is missing or a value breaks its rule; the message names file, row, value, rule.
    """
    place = Path(path)
    if not place.is_file():
        raise NotFoundError(f"there is no table at {place}; give a .csv, .jsonl or .parquet file")
    gathered = Gathered(str(place))
    for number, row in enumerate(_rows(place), 1):
        if number == 1:
            _check_columns(place, row, wide)
        gathered.add(number, row, wide)
    if not gathered.turns:
        raise UsageError(f"{place} holds no rows; a table needs at least one prompt with a label")
    return gathered.table()


def _rows(path: Path) -> Iterator[Row]:
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind == "parquet":
        yield from _parquet(path)
        return
    if kind not in ("csv", "tsv", "jsonl"):
        raise UsageError(f"{path} is of no known kind; a table is a .csv, .tsv, .jsonl or .parquet file")
    try:
        with _opened(path) as file:
            yield from _json_lines(path, file) if kind == "jsonl" else _csv(path, file, kind)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise UsageError(f"{path} cannot be read ({error}); save it as UTF-8 text") from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv(path: Path, file: TextIO, kind: str) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))
    reader = csv.DictReader(file, delimiter="\t" if kind == "tsv" else ",", strict=True)
    try:
        for row in reader:
            if None in row:
                raise UsageError(
                    f"{path} line {reader.line_num} has more cells than the header; quote cells that hold "
                    "the separator"
                )
            yield row
    except csv.Error as error:
        raise UsageError(f"{path} line {reader.line_num} is no CSV ({error}); correct it") from error


def _json_lines(path: Path, file: TextIO) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path} line {number} is no JSON ({error}); correct it") from error
        if not isinstance(row, dict):
            raise UsageError(f"{path} line {number} holds {type(row).__name__}, not an object; correct it")
        yield row


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError(
            f"reading {path} needs pyarrow; pip install 'pilothouse[parquet]', or save it as CSV or JSON "
            "Lines"
        ) from error
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path} is no Parquet file ({error}); save it again") from error


def _check_columns(path: Path, row: Row, wide: Sequence[str]) -> None:
    have = ", ".join(map(str, row))
    if "prompt" not in row and "messages" not in row:
        raise UsageError(f"{path} has no column 'prompt' or 'messages' (it has {have}); rename one")
    missing = [name for name in wide if name not in row]
    if missing:
        raise UsageError(
            f"{path} has no column {missing[0]!r} for that model (it has {have}); correct --wide"
        )
    if wide:
        return
    if "model" not in row:
        raise UsageError(
            f"{path} has no column 'model' (it has {have}); add it, or name the columns that hold one "
            "model's "
            "labels each with --wide"
        )
    if "correct" not in row and "score" not in row:
        raise UsageError(f"{path} has no column 'correct' or 'score' (it has {have}); rename one")


@dataclass(slots=True)
class _Sum:
    """Labels of one prompt and model, added up."""

    quality: float = 0.0
    count: int = 0
    low: float = 1.0
    high: float = 0.0
    cost: float = 0.0
    costs: int = 0
    latency: float = 0.0
    latencies: int = 0

    def add(self, quality: float, cost: float | None, latency: float | None) -> None:
        self.quality += quality
        self.count += 1
        self.low, self.high = min(self.low, quality), max(self.high, quality)
        if cost is not None:
            self.cost += cost
            self.costs += 1
        if latency is not None:
            self.latency += latency
            self.latencies += 1


@dataclass
class Gathered:
    """Rows as they come in, merged by prompt and model."""

    source: str
    signals: dict[str, dict[tuple[int, int], list[float]]] = field(default_factory=dict)
    places: dict[tuple[str, str], int] = field(default_factory=dict)
    turns: list[tuple[Message, ...]] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=dict)
    sums: dict[tuple[int, int], _Sum] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    times: list[float | None] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, row: Row, wide: Sequence[str] = ()) -> None:
        """Add row `number` (from 1). Raises UsageError."""
        where = f"{self.source} row {number}"
        place = self._place(where, row)
        cost, latency = (_amount(where, name, row.get(name)) for name in ("cost", "latency"))
        labels = {name: row.get(name) for name in wide} if wide else {_model(where, row): _label_cell(row)}
        for name, value in labels.items():
            quality = _quality(where, value)
            if quality is None:
                self.found["empty"] += 1
                continue
            model = self.models.setdefault(name, len(self.models))
            self.sums.setdefault((place, model), _Sum()).add(quality, cost, latency)
            self._signals(where, row, (place, model))

    def _signals(self, where: str, row: Row, at: tuple[int, int]) -> None:
        for column, value in row.items():
            if str(column).startswith(SIGNAL) and (number := _amount(where, column, value, True)) is not None:
                self.signals.setdefault(column.removeprefix(SIGNAL), {}).setdefault(at, []).append(number)

    def _place(self, where: str, row: Row) -> int:
        """The prompt's number; the same prompt in another split is another row, for `require_apart` to
        judge.
        """
        group, split = (str(row.get(name) or "").strip() for name in ("group", "split"))
        key = _identity(row), split
        if (place := self.places.get(key)) is not None:
            return place
        self.turns.append(_turns(where, row))
        self.groups.append(group)
        self.splits.append(split)
        self.times.append(_amount(where, "time", row.get("time"), signed=True))
        self.places[key] = len(self.groups) - 1
        return len(self.groups) - 1

    def table(self) -> Table:
        """Return the table. Prompts without any label are left out."""
        shape = len(self.groups), len(self.models)
        quality, cost, latency = (torch.full(shape, math.nan) for _ in range(3))
        for (i, j), one in self.sums.items():
            quality[i, j] = one.quality / one.count
            cost[i, j] = one.cost / one.costs if one.costs else math.nan
            latency[i, j] = one.latency / one.latencies if one.latencies else math.nan
        times = tuple(math.nan if t is None else t for t in self.times)
        whole = Table(
            tuple(self.turns),
            tuple(self.models),
            quality,
            cost,
            latency,
            tuple(self.groups) if any(self.groups) else (),
            tuple(self.splits) if any(self.splits) else (),
            times if any(t is not None for t in self.times) else (),
            self._notes(shape),
            {name: _means(found, shape) for name, found in self.signals.items()},
        )
        kept = torch.nonzero(whole.labelled.any(1))[:, 0]
        return whole if len(kept) == len(whole) else whole.take(kept)

    def _notes(self, shape: tuple[int, int]) -> tuple[str, ...]:
        repeated = sum(one.count > 1 for one in self.sums.values())
        disagreeing = sum(one.low < one.high for one in self.sums.values())
        unlabelled = shape[0] * shape[1] - len(self.sums)
        lines = {
            "empty": (self.found["empty"], "rows have an empty label and were left out"),
            "repeated": (repeated, "pairs of prompt and model have several labels, which were averaged"),
            "disagreeing": (disagreeing, "of these pairs have labels that disagree"),
            "sparse": (unlabelled, f"of {shape[0] * shape[1]} pairs of prompt and model have no label"),
        }
        return tuple(f"{count} {words}" for count, words in lines.values() if count)


def _means(found: Mapping[tuple[int, int], Sequence[float]], shape: tuple[int, int]) -> torch.Tensor:
    """Means of repeated values at their places, NaN elsewhere."""
    whole = torch.full(shape, math.nan)
    for place, values in found.items():
        whole[place] = sum(values) / len(values)
    return whole


def _identity(row: Row) -> str:
    """What tells one prompt from another."""
    messages = row.get("messages")
    if messages in (None, ""):
        return str(row.get("prompt"))
    return messages if isinstance(messages, str) else json.dumps(messages, sort_keys=True, default=str)


def _clean(text: str) -> str:
    """Text in any script; lone surrogates, which no tokenizer takes, become U+FFFD."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _turns(where: str, row: Row) -> tuple[Message, ...]:
    if row.get("messages") not in (None, ""):
        return _messages(where, row["messages"])
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UsageError(
            f"{where}: prompt is {prompt!r}; it must be a text that is not empty; correct the row"
        )
    return (Message(role="user", content=_clean(prompt.replace("\0", "\ufffd"))),)


def _messages(where: str, value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UsageError(f"{where}: messages is no JSON ({error}); it is a list of turns") from error
    good = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    if not good or any(
        one.get("role") not in _ROLES or not isinstance(one.get("content"), str) for one in value
    ):
        raise UsageError(
            f"{where}: messages must be a list of {{role, content}} with a role of {', '.join(_ROLES)} and "
            "text as content; correct the row"
        )
    if not any(one["content"].strip() for one in value):
        raise UsageError(f"{where}: all messages are empty; correct the row")
    return tuple(
        Message(role=one["role"], content=_clean(one["content"].replace("\0", "\ufffd"))) for one in value
    )


def _model(where: str, row: Row) -> str:
    name = row.get("model")
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: model is {name!r}; every row names the model that answered")
    return name.strip()


def _label_cell(row: Row) -> Any:
    value = row.get("correct")
    return row.get("score") if value is None or value == "" else value


def _quality(where: str, value: Any) -> float | None:
    """A label as a number within 0 and 1; None for an empty cell."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    word = str(value).strip().lower()
    number = _TRUTHS.get(word, _number(word))
    if number is None or not 0.0 <= number <= 1.0:
        raise UsageError(
            f"{where}: the label is {value!r}; 'correct' is 0 or 1, 'score' lies within 0 and 1; rescale "
            "other "
            "scores, and leave the cell empty where there is no label"
        )
    return number


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _amount(where: str, name: str, value: Any, signed: bool = False) -> float | None:
    """A cost, latency or time; None for an empty cell."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    number = _number(str(value).strip())
    if number is None or not math.isfinite(number) or (number < 0 and not signed):
        rule = "a number" if signed else "a number from 0 up"
        raise UsageError(f"{where}: {name} is {value!r}; it must be {rule}; leave the cell empty if unknown")
    return number
