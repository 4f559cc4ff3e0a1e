"""Word tasks: each answer is checked against its rule, and rule-like test words are unseen."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from pilothouse.specialists.starter.skills import words_data
from pilothouse.specialists.starter.skills.example import SPLITS, Example, Split
from pilothouse.specialists.starter.skills.grading import correct
from pilothouse.specialists.starter.skills.words import COPIED, KINDS, LISTS, examples
from pilothouse.specialists.starter.skills.words_data import load_words
from pilothouse.specialists.starter.skills.words_lists import (
    ANTONYMS,
    IRREGULAR_PASTS,
    IRREGULAR_PLURALS,
    NOUNS,
    REGULAR_VERBS,
    degree_of,
    past_of,
    plural_of,
)
from pilothouse.specialists.starter.skills.words_templates import FOLLOW_UPS, TEMPLATES

WORD_KINDS = ("spell", "first_letter", "last_letter", "capitalize", "uppercase", "length")


@pytest.fixture(scope="module")
def rows() -> dict[Split, list[Example]]:
    return {split: examples(split, 3000, 0, None) for split in SPLITS}


def asked(row: Example) -> str:
    """Read what a row asks about back out of its prompt, with the template it names."""
    template = row.template.split("/")[-1]
    before, after = template.split("{w}")
    prompt = row.prompt
    for end in {after, after.rstrip("?.")}:
        if prompt.casefold().startswith(before.casefold()) and prompt.endswith(end):
            found = prompt[len(before) : len(prompt) - len(end)]
    return found.rstrip("?.")


def test_rows_are_reproducible_and_hold_every_kind(rows: dict[Split, list[Example]]) -> None:
    assert examples("fit", 3000, 0, None) == rows["fit"]
    assert examples("fit", 3000, 1, None) != rows["fit"]
    for found in rows.values():
        assert {row.kind for row in found} == set(KINDS)
        assert all(correct(row, row.answer) for row in found)
        assert all("{" not in row.prompt for row in found)


def test_letter_answers_follow_from_the_word(rows: dict[Split, list[Example]]) -> None:
    checked = 0
    for row in (row for found in rows.values() for row in found if row.kind in WORD_KINDS):
        word = asked(row).casefold()
        letters = {
            "spell": "-".join(word),
            "first_letter": word[0],
            "last_letter": word[-1],
            "capitalize": word.title(),
            "uppercase": word.upper(),
        }
        if row.kind == "length":
            assert row.answer.endswith(f"{word[-1]}{len(word)}. Answer: {len(word)}")
        else:
            assert row.answer.strip() == letters[row.kind]
        checked += 1
    assert checked > 2000


def test_list_answers_follow_from_the_list(rows: dict[Split, list[Example]]) -> None:
    checked = 0
    listed = [row for found in rows.values() for row in found if row.kind in LISTS]
    for row in listed:
        items = asked(row).casefold().split(", ")
        expected = {
            "choose_first": items[0],
            "choose_last": items[-1],
            "choose_middle": items[len(items) // 2],
            "reverse_list": ", ".join(items[::-1]),
            "alphabetical_first": sorted(items)[0],
        }[row.kind]
        assert row.answer == f" {expected}", row.prompt
        checked += 1
    assert checked > 1500


def test_test_templates_and_rule_like_test_words_are_unseen(rows: dict[Split, list[Example]]) -> None:
    seen = {split: {row.template for row in found} for split, found in rows.items()}
    assert not seen["test"] & (seen["train"] | seen["fit"] | seen["calibrate"])
    words = {
        split: {(row.kind, asked(row).casefold()) for row in found if row.kind in WORD_KINDS}
        for split, found in rows.items()
    }
    assert len(words["test"]) > 100
    assert not words["test"] & (words["train"] | words["fit"] | words["calibrate"])


def test_lexical_test_words_are_trained_ones() -> None:
    trained = {asked(row).casefold() for row in examples("train", 20000, 0, None) if row.kind == "antonym"}
    tested = {asked(row).casefold() for row in examples("test", 500, 0, None) if row.kind == "antonym"}
    assert len(tested) > 20
    assert tested <= trained


def test_an_answer_that_copies_a_word_begins_as_the_word_does_in_a_prompt(
    rows: dict[Split, list[Example]],
) -> None:
    spaced = {row.kind for found in rows.values() for row in found if row.answer.startswith(" ")}
    plain = {row.kind for found in rows.values() for row in found if not row.answer.startswith(" ")}
    assert spaced == COPIED
    assert not spaced & plain
    assert all(turn == turn.strip() for row in rows["train"] for _, turn in row.history)


def test_follow_ups_ask_for_the_kind_of_the_first_turn(rows: dict[Split, list[Example]]) -> None:
    continued = [row for row in rows["train"] if row.history]
    assert 0.05 < len(continued) / len(rows["train"]) < 0.11
    assert all("/then/" in row.template and len(row.history) == 1 for row in continued)


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("mouse", "mice"), ("city", "cities"), ("day", "days"), ("box", "boxes"), ("church", "churches")],
)
def test_plurals(noun: str, plural: str) -> None:
    assert plural_of(noun) == plural


@pytest.mark.parametrize(
    ("verb", "past"),
    [("go", "went"), ("stop", "stopped"), ("cry", "cried"), ("play", "played"), ("bake", "baked")],
)
def test_pasts(verb: str, past: str) -> None:
    assert past_of(verb) == past


@pytest.mark.parametrize(
    ("adjective", "comparative", "superlative"),
    [
        ("big", "bigger", "biggest"),
        ("happy", "happier", "happiest"),
        ("nice", "nicer", "nicest"),
        ("good", "better", "best"),
        ("famous", "more famous", "most famous"),
        ("shy", "shyer", "shyest"),
    ],
)
def test_degrees(adjective: str, comparative: str, superlative: str) -> None:
    assert (degree_of(adjective, "er"), degree_of(adjective, "est")) == (comparative, superlative)


def test_the_built_in_lists_are_large_enough_and_templates_distinct() -> None:
    assert len(set(NOUNS) | set(IRREGULAR_PLURALS)) >= 250
    assert len(set(REGULAR_VERBS) | set(IRREGULAR_PASTS)) >= 150
    assert len(ANTONYMS) >= 120
    assert all(len(set(pool)) == len(pool) >= 10 for pool in TEMPLATES.values())
    assert len(set(FOLLOW_UPS)) == len(FOLLOW_UPS)


def test_files_of_the_data_folder_add_words(tmp_path: Path) -> None:
    folder = tmp_path / "probing" / "function_vectors"
    folder.mkdir(parents=True)
    rows = json.dumps(
        [{"input": "grater", "output": "graters"}, {"input": "Two Words", "output": "x"}]
    ).encode()
    with tarfile.open(folder / "function_vectors_datasets.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("dataset_files/abstractive/singular-plural.json")
        member.size = len(rows)
        archive.addfile(member, io.BytesIO(rows))
    words = load_words(tmp_path)
    assert words.pairs["plural"]["grater"] == "graters"
    assert "Two Words" not in words.pairs["plural"]
    assert words.pairs["plural"]["mouse"] == "mice"
    assert "grater" not in load_words(None).pairs["plural"]


def test_words_of_the_texts_are_for_training_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(words_data, "english_text", lambda data: ["A zyx met a Qop; the zyx wept."])
    found = load_words(tmp_path / "texts")
    assert "zyx" in found.more
    assert "Qop" not in found.more
    assert not set(found.more) & set(found.plain)
    drawn = {split: examples(split, 4000, 0, tmp_path / "texts") for split in SPLITS}
    assert not any("zyx" in row.prompt for split in SPLITS[1:] for row in drawn[split])


def test_a_missing_or_broken_data_folder_falls_back(tmp_path: Path) -> None:
    assert examples("train", 50, 0, tmp_path / "nowhere") == examples("train", 50, 0, None)
    folder = tmp_path / "probing" / "function_vectors"
    folder.mkdir(parents=True)
    (folder / "function_vectors_datasets.tar.gz").write_bytes(b"not an archive")
    assert examples("train", 50, 0, tmp_path) == examples("train", 50, 0, None)
