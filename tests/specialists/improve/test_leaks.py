"""Leaks are found exactly as by comparing every pair."""

from __future__ import annotations

import random

import pytest

from pilothouse.specialists.improve.leaks import duplicates, leaks, shingles

TEXT = "the pilot reads the instruments, sets the course and turns the wheel before the tide falls again"


def edited(text: str, rng: random.Random, edits: int) -> str:
    letters = list(text)
    for _ in range(edits):
        letters[rng.randrange(len(letters))] = rng.choice("abcdef ")
    return "".join(letters)


@pytest.mark.parametrize("near", [0.5, 0.8, 0.95])
def test_the_prefix_filter_misses_no_pair(near: float) -> None:
    rng = random.Random(0)
    rows = [edited(TEXT, rng, rng.randrange(12)) for _ in range(60)]
    tests = [edited(TEXT[: rng.randrange(40, len(TEXT))], rng, rng.randrange(6)) for _ in range(40)]
    a, b = [shingles(r) for r in rows], [shingles(t) for t in tests]
    slow = {i: max(len(x & y) / len(x | y) for y in b) for i, x in enumerate(a)}
    wanted = {i: s for i, s in slow.items() if s >= near}
    found = {leak.row: leak.similarity for leak in leaks(rows, tests, near)}
    assert found == pytest.approx(wanted)
    assert near > 0.9 or wanted


def test_case_spacing_and_end_punctuation_do_not_hide_a_leak() -> None:
    found = leaks(["x", "  What is\tTHIS? "], ["What is this"], 1.0)
    assert [(leak.row, leak.other, leak.similarity) for leak in found] == [(1, 0, 1.0)]


def test_another_digit_is_another_row() -> None:
    assert leaks(["What is 12 + 31?"], ["What is 12 + 30?"]) == []
    assert leaks([], ["a"]) == leaks(["a"], []) == []


def test_duplicates_name_the_first_row_they_repeat() -> None:
    assert [(d.row, d.other) for d in duplicates(["a", "b", "A ", "b"])] == [(2, 0), (3, 1)]


def test_a_similarity_is_a_share() -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        leaks(["a"], ["a"], 0.0)
