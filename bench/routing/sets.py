"""The public tables: two models' verdicts on MMLU and GSM8K, as RouteLLM cached them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...router.routing.reading import read_table
from ...router.routing.table import Table
from ...store.errors import NotFoundError

FOLDER = Path("router/routellm")
WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
PRICES = {WEAK: 1.0, STRONG: 10.0}
# The draw that this project looked at while it chose heads; its rows are in no test.
_LOOKED_AT, _LOOKED_SEED = 1500, 100


def mmlu(data: Path) -> Table:
    """13,9xx questions in 57 subjects (the group); repeated questions are one. Raises NotFoundError."""
    return _table(_mmlu_rows(_there(data / FOLDER / "routellm_mmlu_responses.tar.gz")))


def gsm8k(data: Path) -> Table:
    """1,319 word problems. Raises NotFoundError."""
    path = _there(data / FOLDER / "gsm8k_responses.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return _table({**row, "group": ""} for row in csv.DictReader(file))


def looked_at(data: Path) -> set[str]:
    """The MMLU questions that were looked at while heads were chosen."""
    rows = list(_mmlu_rows(_there(data / FOLDER / "routellm_mmlu_responses.tar.gz")))
    order = np.random.default_rng(_LOOKED_SEED).permutation(len(rows))
    return {rows[i]["prompt"] for i in order[:_LOOKED_AT]}


def _there(path: Path) -> Path:
    if not path.is_file():
        raise NotFoundError(f"there is no {path}; give the data folder with --data")
    return path


def _mmlu_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of all subjects, in the order of their file names."""
    with tarfile.open(path) as archive:
        members = sorted((m for m in archive if m.name.endswith(".csv")), key=lambda m: m.name)
        for member in members:
            raw = archive.extractfile(member)
            assert raw is not None
            subject = Path(member.name).stem.removeprefix("mmlu_")
            text = io.TextIOWrapper(raw, encoding="utf-8", newline="")
            yield from ({**row, "group": subject} for row in csv.DictReader(text))


def _table(rows: Iterator[dict[str, str]]) -> Table:
    """Through the reader that users' tables go through."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in rows:
                kept = {name: row[name] for name in ("prompt", "group", WEAK, STRONG)}
                file.write(json.dumps(kept) + "\n")
        return read_table(path, (WEAK, STRONG))
