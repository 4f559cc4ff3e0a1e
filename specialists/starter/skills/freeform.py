"""Freeform: phrasings written by hand, as people type them, to fit and calibrate the router's probes.

No row is trained on, and no row is tested on: the tests of free phrasing are written by somebody else.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import get_args

from .example import Check, Example, Split, bucket

ROWS = Path(__file__).with_name("freeform.jsonl")
MORE = Path(__file__).with_name("freeform_more.jsonl")  # by a third writer; all of them fit
FIT_SHARE = 80  # percent of the first file; the rest calibrates
CHECKS: tuple[Check, ...] = get_args(Check)
OUTSIDE = "none"  # the file's name for a request that no specialist serves


def examples(split: Split, count: int, seed: int, data: Path | None = None) -> list[Example]:
    """Return up to ``count`` rows of ``fit`` or ``calibrate``, shuffled by ``seed``; other splits have none.

    The skill of a row is its specialist, or ``outside``. ``data`` is not used.
    """
    rows = [row for row in _rows(ROWS) if _split(row.prompt) == split]
    rows += _rows(MORE) if split == "fit" else ()
    random.Random(f"freeform/{split}/{seed}").shuffle(rows)
    return rows[:count]


def _split(prompt: str) -> Split:
    return "fit" if bucket(f"freeform/{prompt}") < FIT_SHARE else "calibrate"


@cache
def _rows(path: Path) -> tuple[Example, ...]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_example(json.loads(line)) for line in lines)


def _example(row: dict[str, str]) -> Example:
    skill = "outside" if row["specialist"] == OUTSIDE else row["specialist"]
    return Example(row["prompt"], row["answer"], skill, "freeform", "freeform", _check(row["check"]))


def _check(name: str) -> Check:
    for check in CHECKS:
        if check == name:
            return check
    raise ValueError(f"check {name!r} is not one of {', '.join(CHECKS)}: correct {ROWS.name}")
