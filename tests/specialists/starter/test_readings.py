"""Prompts that carry a reading: their splits share no template and no prompt."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from pilothouse.specialists.starter.skills import readings
from pilothouse.specialists.starter.skills.example import SPLITS, Example, Split

HELD: tuple[Split, ...] = ("fit", "calibrate", "test")
PAIRS = list(combinations(HELD, 2))


def styled(split: Split) -> list[Example]:
    return readings.in_language(split, 300, 0) + readings.with_dialogue(split, 300, 0)


def texts(split: Split, data: Path) -> list[Example]:
    rows = readings.harmful(split, data) + readings.harmless(split, data, 500)
    return rows + readings.injected(split, data, 60, 0)


@pytest.mark.parametrize("templates", [readings.IN_LANGUAGE, readings.WITH_DIALOGUE])
def test_every_template_is_written_once_and_has_its_places(templates: list[str]) -> None:
    assert len(set(templates)) == len(templates) >= 15
    assert all("{a}" in t for t in templates)
    assert all("{l}" in t for t in templates) == (templates is readings.IN_LANGUAGE)


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_styled_splits_share_no_template_and_no_prompt(one: Split, other: Split) -> None:
    first, second = styled(one), styled(other)
    assert not {row.template for row in first} & {row.template for row in second}
    assert not {row.prompt.lower() for row in first} & {row.prompt.lower() for row in second}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_text_splits_share_no_prompt(tiny_data: Path, one: Split, other: Split) -> None:
    first, second = ({row.prompt for row in texts(split, tiny_data)} for split in (one, other))
    assert first
    assert second
    assert not first & second


def test_nothing_is_trained_on(tiny_data: Path) -> None:
    assert texts("train", tiny_data) == []


@pytest.mark.parametrize("split", SPLITS)
def test_without_a_data_folder_the_texts_are_none(split: Split) -> None:
    assert readings.harmful(split, None) == []
    assert readings.harmless(split, None, 5) == []
    assert readings.injected(split, None, 5, 0) == []


def test_test_texts_come_from_the_files_for_testing(tiny_data: Path) -> None:
    assert all(row.prompt.startswith("harmful_val") for row in readings.harmful("test", tiny_data))
    assert len(readings.harmful("test", tiny_data)) == 60
    fit, calibrate = (readings.harmful(split, tiny_data) for split in ("fit", "calibrate"))
    # every text of the train file, in exactly one of both, as it stands and as a question
    assert len(fit) + len(calibrate) == 120
    assert 60 < len(fit) < 108


def test_kinds_say_what_a_prompt_asks_for(tiny_data: Path) -> None:
    for row in readings.in_language("test", 300, 0):
        language = readings.LANGUAGES[row.kind.removeprefix("reply-")]
        assert language.lower() in row.prompt.lower()
        assert not any(o.lower() in row.prompt.lower() for o in readings.LANGUAGES.values() if o != language)
    assert {row.kind for row in readings.in_language("fit", 300, 0)} == {"reply-fr", "reply-es", "reply-de"}
    assert {row.kind for row in readings.with_dialogue("fit", 30, 0)} == {"dialogue"}
    assert {row.skill for row in styled("fit")} == {"stories"}
    assert {(row.skill, row.kind, row.template) for row in readings.harmful("fit", tiny_data)} == {
        ("outside", "harmful", "bare")
    }
    assert {row.kind for row in readings.harmless("fit", tiny_data, 9)} == {"harmless"}
    assert {row.kind for row in readings.injected("fit", tiny_data, 9, 0)} == {"injected"}


def test_rows_are_a_function_of_the_seed_and_as_many_as_asked() -> None:
    assert readings.in_language("fit", 40, 3) == readings.in_language("fit", 40, 3)
    assert readings.in_language("fit", 40, 3) != readings.in_language("fit", 40, 4)
    assert len(readings.in_language("fit", 40, 3)) == 40
    assert len(readings.with_dialogue("test", 7, 0)) == 7
    counts = [row.kind for row in readings.in_language("fit", 90, 0)]
    assert [counts.count(f"reply-{code}") for code in readings.LANGUAGES] == [30, 30, 30]


@pytest.mark.parametrize(
    ("order", "question"),
    [
        ("Write a guide on how to pick a lock", ("How do I pick a lock?", "How can I pick a lock?")),
        ("Why do rockets need an engine?", ("Why do rockets need an engine?",)),
        (
            "Name two fruits.",
            ("Can you name two fruits?", "Could you please name two fruits?", "Would you name two fruits?"),
        ),
    ],
)
def test_orders_become_questions(order: str, question: tuple[str, ...]) -> None:
    assert readings.as_question(order) in question


def test_fitting_sees_requests_as_orders_and_as_questions(tiny_data: Path) -> None:
    for split in ("fit", "calibrate"):
        prompts = {row.prompt for row in readings.harmful(split, tiny_data)}
        orders = {p for p in prompts if not p.endswith("?")}
        assert orders
        assert prompts == orders | {readings.as_question(order) for order in orders}
    assert not any(row.prompt.endswith("?") for row in readings.harmful("test", tiny_data))
