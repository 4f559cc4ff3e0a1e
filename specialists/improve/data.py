"""A recipe's data sets: rows of text columns from a file, a folder, a hub id or a built-in generator."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...store.errors import UsageError
from ..card import Strict

Row = Mapping[str, str]
READ = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet")


class Table(Strict):
    """A ``[data.NAME]`` table: exactly one of ``file``, ``folder``, ``hub`` and ``generator``.

    ``columns`` renames: ``{prompt = "question"}`` takes the column question as prompt. ``rows`` is how many
    are taken at most (drawn, for a generator). ``test`` keeps the set out of training and checks every other
    set against it. ``duplicates`` and ``leaks`` say what to do with such rows: stop, or leave them out.
    """

    file: str | None = None
    folder: str | None = None
    hub: str | None = None
    revision: str | None = None
    generator: str | None = None
    split: Literal["train", "fit", "calibrate", "test"] = "train"
    rows: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    licence: str = ""
    columns: Annotated[dict[str, str], Field(default_factory=dict)]
    test: bool = False
    duplicates: Literal["refuse", "drop", "keep"] = "refuse"
    leaks: Literal["refuse", "drop"] = "refuse"
    near: Annotated[float, Field(gt=0, le=1)] = 0.8

    @model_validator(mode="after")
    def _one_source(self) -> Table:
        given = [n for n in ("file", "folder", "hub", "generator") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of file, folder, hub, generator; given: {given or 'none'}")
        if self.generator is None and not self.licence.strip():
            raise ValueError('say under which licence the data is: licence = "..."')
        if self.revision is not None and self.hub is None:
            raise ValueError("revision is that of a hub id")
        return self


@dataclass(frozen=True)
class Data:
    """Rows of text, where they are from, under which licence, and one SHA-256 over all of it."""

    name: str
    rows: tuple[Row, ...]
    licence: str
    source: str
    sha256: str
    test: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row has."""
        if not self.rows:
            return ()
        return tuple(c for c in self.rows[0] if all(c in row for row in self.rows))

    def require(self, columns: Sequence[str]) -> None:
        """Raise UsageError where a row lacks one of the columns."""
        lacking = [c for c in columns if c not in self.columns]
        if lacking:
            row = next((i for i, r in enumerate(self.rows, 1) if lacking[0] not in r), 1)
            raise UsageError(
                f"data {self.name!r} ({self.source}) lacks the column {lacking[0]!r} in row {row}: every row "
                f"has {', '.join(self.columns) or 'no column in common'}; add it, or name the right one in "
                f"[data.{self.name}.columns]"
            )

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield (prompt, answer) of each row."""
        return ((row["prompt"], row["answer"]) for row in self.rows)

    def only(self, keep: Sequence[int]) -> Data:
        """Return the data set with these rows only."""
        return made(self.name, [self.rows[i] for i in keep], self.licence, self.source, self.test)


def made(name: str, rows: Sequence[Row], licence: str, source: str, test: bool = False) -> Data:
    """Return a data set, hashed."""
    lines = "\n".join(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows)
    digest = hashlib.sha256(f"{licence}\0{lines}".encode()).hexdigest()
    return Data(name, tuple(rows), licence, source, digest, test)


def load(name: str, table: Table, base: Path, seed: int) -> Data:
    """Read a data set; relative paths start at ``base``, the recipe's folder.

    Raises:
        UsageError: it is not there, not UTF-8, damaged, of an unknown kind, or has no rows.
    """
    if table.generator is not None:
        from .data_tasks import generate

        count = 1000 if table.rows is None else table.rows
        drawn, licence = generate(
            table.generator, table.split, count, seed if table.seed is None else table.seed
        )
        source = f"generator {table.generator}, split {table.split}"
        return made(name, _renamed(drawn, table), table.licence or licence, source, table.test)
    if table.hub is not None:
        folder, source = _downloaded(table.hub, table.revision)
        rows = read_folder(folder)
    elif table.folder is not None:
        source, rows = table.folder, read_folder(base / table.folder)
    else:
        source, rows = str(table.file), read_file(base / str(table.file))
    rows = rows[: table.rows]
    if not rows:
        raise UsageError(f"data {name!r} ({source}) has no rows: give a file that has some")
    return made(name, _renamed(rows, table), table.licence, source, table.test)


def _renamed(rows: Sequence[Row], table: Table) -> list[Row]:
    back = {theirs: ours for ours, theirs in table.columns.items()}
    return [{back.get(key, key): value for key, value in row.items()} for row in rows]


def read_folder(folder: Path) -> list[Row]:
    """Read every data file of a folder, in the order of their names.

    Raises:
        UsageError: there is no such folder, or no data file in it.
    """
    if not folder.is_dir():
        raise UsageError(f"the data folder {folder} does not exist: give one that does")
    files = sorted(p for p in folder.rglob("*") if p.suffix in READ and not p.name.startswith("."))
    if not files:
        raise UsageError(f"{folder} holds no data file: they end in {', '.join(READ)}")
    return [row for path in files for row in read_file(path)]


def read_file(path: Path) -> list[Row]:
    """Read a data file; every value becomes text.

    Raises:
        UsageError: it does not exist, its name ends otherwise, or it is damaged.
    """
    if path.suffix not in READ:
        raise UsageError(f"data file {path}: its name must end in one of {', '.join(READ)}")
    if not path.is_file():
        raise UsageError(f"the data file {path} does not exist: give one that does")
    if path.suffix == ".parquet":
        return _parquet(path)
    text = decoded(path.read_bytes(), path)
    if path.suffix in (".csv", ".tsv"):
        return _separated(text, path)
    if path.suffix == ".txt":
        return [{"text": line} for line in text.splitlines() if line.strip()]
    return _json(text, path)


def decoded(raw: bytes, path: Path) -> str:
    """Decode a file as UTF-8, all of it.

    Raises:
        UsageError: some line is not UTF-8, or carries the mark of an earlier failed decoding.
    """
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{path} is UTF-16: convert it first, for example with iconv -f UTF-16 -t UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path} mixes encodings: line {line} is not UTF-8 (byte {raw[error.start]:#04x}), what stands "
            "before it is; find where that line comes from and convert it, for example with iconv -t UTF-8"
        ) from error
    at = text.find("\ufffd")
    if at >= 0:
        line = text.count("\n", 0, at) + 1
        raise UsageError(
            f"{path} was damaged by a failed decoding: line {line} holds U+FFFD where a character was; "
            "export it again from its source"
        )
    return text


def _json(text: str, path: Path) -> list[Row]:
    try:
        whole = json.loads(text) if path.suffix == ".json" else None
        if whole is not None and not isinstance(whole, list):
            raise UsageError(f"{path} holds {type(whole).__name__}: a data file holds a list of objects")
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({error}): correct it") from error
    if whole is not None:
        return [_row(value, path, number) for number, value in enumerate(whole, 1)]
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(_row(json.loads(line), path, number))
            except ValueError as error:
                raise UsageError(f"{path} line {number} is no JSON ({error}): correct it") from error
    return rows


def _row(value: Any, path: Path, number: int) -> Row:
    if not isinstance(value, dict):
        raise UsageError(
            f"{path} row {number} is {type(value).__name__}: every row is an object with columns"
        )
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in value.items() if v is not None}


def _separated(text: str, path: Path) -> list[Row]:
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.suffix == ".tsv" else ",")
    lines = [line for line in reader if line]
    for number, line in enumerate(lines, 1):
        if len(line) != len(lines[0]):
            raise UsageError(
                f"{path} row {number} has {len(line)} fields, its header {len(lines[0])}: quote separators"
            )
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(f"{path} needs pyarrow: pip install 'pilothouse[parquet]'") from error
    try:
        found = pq.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no parquet file ({error}): download it again") from error
    return [_row(value, path, number) for number, value in enumerate(found, 1)]


def _downloaded(hub: str, revision: str | None) -> tuple[Path, str]:
    """Return a hub data set's folder; what was downloaded before an interruption is kept and gone on from."""
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in READ]
    try:
        found = snapshot_download(hub, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except Exception as error:
        raise UsageError(
            f"the hub data set {hub!r} cannot be had ({type(error).__name__}: {error}); nothing was started. "
            "Check the name and the network and run again: what was downloaded is kept"
        ) from error
    folder = Path(found)
    return folder, f"hub {hub} at {folder.name}"
