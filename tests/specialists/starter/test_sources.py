"""Readers of the data folder: licences, front matter, order, cleaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.specialists.starter.skills import sources


def test_only_plain_cc_by_english_storybooks_are_read(tiny_data: Path) -> None:
    assert list(sources.storybook_text(tiny_data)) == ['The "goat" ran.']
    assert sources.storybook_credits(tiny_data) == ["A free story, Ann"]


def test_only_train_tales_are_read_unless_asked(tiny_data: Path) -> None:
    text = " ".join(sources.fairytale_text(tiny_data))
    assert "tale 3 " in text
    assert "tale 45 " not in text
    assert "tale 45 " in " ".join(sources.fairytale_text(tiny_data, "test"))


def test_books_come_easiest_first_without_late_titles_headings_or_slurs(tiny_data: Path) -> None:
    easy, hard = list(sources.book_text(tiny_data))
    assert easy == "The cat sat. It was fat.\nThe end came."
    assert hard.startswith("Notwithstanding")


def test_english_text_joins_all_sources_and_names_a_missing_one(tiny_data: Path, tmp_path: Path) -> None:
    found = list(sources.english_text(tiny_data))
    assert found[0].startswith('The "goat"')
    assert found[-1].startswith("Notwithstanding")
    with pytest.raises(FileNotFoundError, match="asp_source_stories"):
        next(sources.english_text(tmp_path))


def test_documents_hold_about_the_limit_and_lose_nothing() -> None:
    text = "\n\n".join(f"Line number {i} of the text." for i in range(50))
    found = list(sources.documents(text, limit=200))
    assert "\n".join(found).split("\n") == [f"Line number {i} of the text." for i in range(50)]
    assert all(200 <= len(document) < 240 for document in found[:-1])


def test_instructions_are_short_and_free_of_the_end_mark(tiny_data: Path) -> None:
    pairs = list(sources.instructions(tiny_data))
    assert ("Which animal is number 7?", "cat") in pairs
    assert all(len(prompt) <= 400 and "<|" not in answer for prompt, answer in pairs)


def test_reading_effort_orders_simple_before_hard() -> None:
    simple = "The dog ran. The dog sat. The cat ran. The cat sat."
    hard = "Incomprehensible bureaucratic regulations notwithstanding, deliberations continued interminably."
    assert sources.reading_effort(simple) < sources.reading_effort(hard)
