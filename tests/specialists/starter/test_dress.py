"""Small talk around prompts: the request stays in it, and measured splits stay as they were."""

from __future__ import annotations

from random import Random

import pytest

from pilothouse.specialists.starter.skills import arithmetic, dress
from pilothouse.specialists.starter.skills.example import Example, wider_pool

ROWS = [Example(f"What is {i} + 1?", str(i + 1), "arithmetic", "add", "t", "number") for i in range(400)]


@pytest.mark.parametrize("split", ["train", "fit"])
def test_a_quarter_is_dressed_and_holds_its_request(split: str) -> None:
    rows = dress.dressed(ROWS, split, 0)  # type: ignore[arg-type]
    changed = [(old, new) for old, new in zip(ROWS, rows, strict=True) if old != new]
    assert 0.18 < len(changed) / len(ROWS) < 0.32
    for old, new in changed:
        assert old.prompt in new.prompt
        assert len(new.prompt) > len(old.prompt)
        assert (new.answer, new.kind, new.template) == (old.answer, old.kind, old.template)


@pytest.mark.parametrize("split", ["calibrate", "test"])
def test_measured_splits_are_left_alone(split: str) -> None:
    assert dress.dressed(ROWS, split, 0) == ROWS  # type: ignore[arg-type]


def test_dressing_depends_on_the_seed_only() -> None:
    assert dress.dressed(ROWS, "train", 1) == dress.dressed(ROWS, "train", 1)
    assert dress.dressed(ROWS, "train", 1) != dress.dressed(ROWS, "train", 2)


def test_texts_to_go_on_with_are_left_alone() -> None:
    rows = [Example("Once upon a time", "", "stories", "continue", "t", "open")] * 50
    assert dress.dressed(rows, "train", 0) == rows


def test_small_talk_holds_no_number_and_varies() -> None:
    rng = Random(0)
    seen = {dress.dress(Example("X", "", "s", "k", "t", "exact"), rng).prompt for _ in range(500)}
    assert len(seen) > 300
    assert not any(character.isdigit() for prompt in seen for character in prompt)


def test_further_templates_reach_training_and_fitting_alone() -> None:
    own = [f"t{i}" for i in range(10)]
    assert wider_pool(own, ["more", "t4", "T4?", "t3", "t0"], "train") == [
        *(t for t in own if t[1] in "012567"),
        "more",
    ]
    assert wider_pool(own, ["more"], "fit") == wider_pool(own, ["more"], "train")
    assert wider_pool(own, ["more"], "test") == ["t4", "t9"]
    assert wider_pool(own, ["more"], "calibrate") == ["t3", "t8"]


def test_no_sum_of_the_test_split_is_asked_in_training_words() -> None:
    asked = {
        split: {r.template for r in arithmetic.examples(split, 3000, 0, None)} for split in ("train", "test")
    }
    assert len(asked["train"]) > 400
    assert not asked["train"] & asked["test"]


def test_some_prompts_follow_another_topic() -> None:
    others = [Example(f"capital of {i}", "Paris", "facts", "capital", "t", "exact") for i in range(400)]
    follow = [Example("and now?", "3", "arithmetic", "add", "t", "number", (("1+1", "2"),))] * 50
    rows = [*ROWS, *others, *follow]
    found = dress.after_other_topics(rows, 0, 0.4)
    assert [(r.prompt, r.answer) for r in found] == [(r.prompt, r.answer) for r in rows]
    assert found[-50:] == follow
    switched = [r for r in found[:-50] if r.history]
    assert 0.1 < len(switched) / 800 < 0.3  # half of the drawn exchanges are of the same skill
    answers = {"facts": "Paris", "arithmetic": None}
    assert all((r.history[0][1] == answers["facts"]) == (r.skill == "arithmetic") for r in switched)
    assert dress.after_other_topics(rows, 0, 0.0) == rows
