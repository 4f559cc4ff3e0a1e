"""The hand-written phrasings: whole, unique, split once, and apart from the phrasings of the test set."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pilothouse.specialists.starter.skills.freeform import MORE, ROWS, examples
from pilothouse.specialists.starter.skills.grading import correct, normalised

PARAPHRASES = Path(__file__).parents[3] / "bench" / "data" / "paraphrases.jsonl"
CHECKS = {
    "arithmetic": {"number"},
    "facts": {"exact"},
    "translate": {"chrf"},
    "emotion": {"label"},
    "screening": {"label"},
    "words": {"exact", "number"},
    "stories": {"open"},
    "help": {"open"},
    "none": {"open"},
}
EMOTIONS = """admiration amusement anger annoyance approval caring confusion curiosity desire disappointment
disapproval disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride
realization relief remorse sadness surprise"""
LABELS = {"emotion": EMOTIONS.split(), "screening": ["safe", "spam", "injection", "harmful"]}


def _rows(*paths: Path) -> list[dict[str, str]]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_specialist_has_at_least_seventy_five_rows() -> None:
    counts = Counter(row["specialist"] for row in _rows(ROWS))
    assert set(counts) == set(CHECKS)
    assert min(counts.values()) >= 75


def test_rows_have_the_fields_and_the_check_of_their_specialist() -> None:
    for row in _rows(ROWS, MORE):
        assert set(row) == {"prompt", "specialist", "answer", "check"}
        assert row["prompt"] == row["prompt"].strip() != ""
        assert row["check"] in CHECKS[row["specialist"]], row
        assert bool(row["answer"]) == (row["check"] != "open"), row
        assert row["answer"] in LABELS.get(row["specialist"], [row["answer"]]), row


def test_a_reference_passes_its_own_check() -> None:
    rows = [row for split in ("fit", "calibrate") for row in examples(split, 9_999, 0) if row.check != "open"]
    assert rows
    assert [row for row in rows if not correct(row, row.answer)] == []


def test_no_prompt_is_written_twice() -> None:
    counts = Counter(normalised(row["prompt"]) for row in _rows(ROWS, MORE))
    assert [prompt for prompt, count in counts.items() if count > 1] == []


def test_splits_share_no_row_and_leave_train_and_test_empty() -> None:
    fit, calibrate = examples("fit", 9_999, 0), examples("calibrate", 9_999, 0)
    whole = len(_rows(ROWS))
    more = {row["prompt"] for row in _rows(MORE)}
    assert len(fit) + len(calibrate) == whole + len(more)
    assert more <= {row.prompt for row in fit}
    assert not {row.prompt for row in fit} & {row.prompt for row in calibrate}
    assert 0.15 < len(calibrate) / whole < 0.25
    assert {row.skill for row in calibrate} == {row.skill for row in fit} == {*CHECKS, "outside"} - {"none"}
    assert examples("train", 999, 0) == examples("test", 999, 0) == []


def test_same_arguments_give_the_same_rows() -> None:
    assert examples("fit", 40, 3) == examples("fit", 40, 3) != examples("fit", 40, 4)
    assert len(examples("fit", 40, 3)) == 40


def test_no_row_is_in_the_test_set() -> None:
    if not PARAPHRASES.exists():
        pytest.skip("bench/data/paraphrases.jsonl is not in this checkout")
    tested = {normalised(row["prompt"]) for row in _rows(PARAPHRASES)}
    assert [row["prompt"] for row in _rows(ROWS, MORE) if normalised(row["prompt"]) in tested] == []
