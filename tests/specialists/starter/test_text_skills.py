"""Emotion, screening, stories, helpdesk and outside: labels, splits, templates and determinism."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.specialists.starter.skills import emotion, helpdesk, outside, screening, stories, wrap
from pilothouse.specialists.starter.skills.example import SPLITS, Example

Maker = Callable[..., list[Example]]
MAKERS = [emotion.examples, screening.examples, stories.examples, helpdesk.examples, outside.examples]


@pytest.mark.parametrize("make", MAKERS)
def test_splits_share_no_prompt_and_repeat_for_a_seed(make: Maker, tiny_data: Path) -> None:
    prompts: set[str] = set()
    for split in SPLITS:
        rows = make(split, 120, 0, tiny_data)
        assert rows == make(split, 120, 0, tiny_data)
        assert rows
        assert len(rows) <= 120
        assert not prompts & {row.prompt for row in rows}
        prompts |= {row.prompt for row in rows}


@pytest.mark.parametrize("make", [emotion.examples, screening.examples, stories.examples])
def test_test_and_calibrate_templates_are_their_own(make: Maker, tiny_data: Path) -> None:
    used = {split: {row.template for row in make(split, 400, 0, tiny_data)} for split in SPLITS}
    assert not used["test"] & (used["train"] | used["fit"] | used["calibrate"])
    assert not used["calibrate"] & (used["train"] | used["fit"])


@pytest.mark.parametrize("make", [emotion.examples, screening.examples, outside.examples])
def test_a_data_folder_is_needed(make: Maker, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data folder"):
        make("train", 1, 0, None)
    with pytest.raises(FileNotFoundError):
        make("train", 1, 0, tmp_path)


def test_emotion_labels_come_with_their_text(tiny_data: Path) -> None:
    for row in emotion.examples("train", 300, 0, tiny_data):
        number = int("".join(c for c in row.prompt if c.isdigit()))
        assert row.answer == ("anger", "joy")[number % 3] == row.kind
    test = emotion.examples("test", 50, 0, tiny_data)
    assert {row.answer for row in test} == {"joy"}
    assert all("A new text" in row.prompt for row in test)  # a dev text that train holds is left out


def test_screening_labels_come_with_their_text(tiny_data: Path) -> None:
    rows = screening.examples("train", 1000, 0, tiny_data)
    for row in rows:
        truth = "safe"
        if "Do the train thing" in row.prompt:
            truth = "injection"
        elif "harmful_train" in row.prompt:
            truth = "harmful"
        elif "sms & number" in row.prompt:
            number = re.search(r"sms & number (\d+)", row.prompt)
            assert number is not None, row.prompt
            truth = "spam" if int(number[1]) % 3 == 0 else "safe"
        assert row.answer == truth, row.prompt
    assert 0.35 < Counter(row.answer for row in rows)["safe"] / len(rows) < 0.45


def test_screening_test_split_reads_test_files_only(tiny_data: Path) -> None:
    text = " ".join(row.prompt for row in screening.examples("test", 400, 0, tiny_data))
    assert "Do the test thing" in text
    assert "Do the train thing" not in text
    assert "harmful_val" in text
    assert "harmful_train" not in text
    assert "harmless_train" not in text


def test_stories_fit_their_request(tiny_data: Path) -> None:
    rows = stories.examples("train", 300, 0, tiny_data)
    assert {row.check for row in rows} == {"open"}
    for row in rows:
        assert len(row.answer.split()) <= stories.WORD_LIMIT
        assert row.answer.endswith(".")
        if row.kind == "continue":
            assert "They played" in row.answer
        else:
            assert all(noun in row.answer for noun in row.kind.removeprefix("about:").split("+"))
            assert all(noun in row.prompt for noun in row.kind.removeprefix("about:").split("+"))
    assert {"about:rabbit", "continue"} <= {row.kind for row in rows}


def test_stories_without_text_have_prompts_but_no_training_rows() -> None:
    assert stories.examples("train", 10, 0, None) == []
    rows = stories.examples("test", 200, 0, None)
    assert len(rows) == 200
    assert {row.answer for row in rows} == {""}


def test_cut_ends_at_a_sentence() -> None:
    assert stories.cut("One two three. Four five six. Seven", 6) == "One two three. Four five six."
    assert stories.cut("One two three. Four five six.", 5) == "One two three."
    assert stories.cut("One two three four.", 3) == ""


def test_subjects_carry_their_adjective_and_singular() -> None:
    assert stories.subjects("A brave rabbit met two foxs and an owl. Hm. Yes. A cow came.") == [
        "brave rabbit",
        "fox",
        "owl",
    ]


def test_helpdesk_has_many_rows_and_all_kinds() -> None:
    rows = helpdesk.rows()
    assert len({prompt.lower() for prompt, _ in rows}) == len(rows) >= 120
    for split in SPLITS:
        assert {r.kind for r in helpdesk.examples(split, 60, 0, None)} == {
            "abilities",
            "greeting",
            "thanks",
            "identity",
        }


def test_outside_groups_are_disjoint(tiny_data: Path) -> None:
    fit = [row for split in SPLITS[:3] for row in outside.examples(split, 300, 0, tiny_data)]
    test = outside.examples("test", 300, 0, tiny_data)
    assert {row.kind for row in fit} == set(outside.FIT_SOURCES)
    assert {row.kind for row in test} == set(outside.TEST_SOURCES)
    intents = [{r.prompt.split()[-1] for r in rows if r.kind.startswith("clinc")} for rows in (fit, test)]
    assert not intents[0] & intents[1]
    assert "translate" not in intents[0] | intents[1]
    assert not any("1 + 1" in row.prompt or "dev" in row.prompt for row in test)
    assert not any(row.prompt.startswith("Translate") for row in fit)


def test_outside_scripts_are_not_latin(tiny_data: Path) -> None:
    rows = [r for s in SPLITS for r in outside.examples(s, 300, 0, tiny_data) if "scripts" in r.kind]
    assert rows
    assert all(outside.latin_share(row.prompt) < 0.5 for row in rows)


def test_clip_prefers_a_sentence_end() -> None:
    assert wrap.clip("One two three. Four five six seven.", 20) == "One two three."
    assert wrap.clip("One two three four five", 14) == "One two three"
    assert wrap.clip(" a\n b ", 20) == "a b"
