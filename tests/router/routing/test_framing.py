"""What stands around a question is left out, and nothing else is."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.bench.routing.wrappers import AFTER, BEFORE
from pilothouse.router.routing.framing import core_of
from pilothouse.router.routing.perturb import variants
from pilothouse.router.routing.scouts import TextReader, text_of
from pilothouse.store.records import Message

QUESTIONS = (
    "Which river is the longest in Europe?",
    "12 + 30",
    "Translate into German: The cat sleeps.",
    "Which is right?\nA. 3\nB. 4\nC. Help\nAnswer:",
    "我想知道什么是熵",
    "def f(x):\n    return x + 1",
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_wrappers_leave_the_question(question: str) -> None:
    wrapped = variants(question, "wrapper", 20)
    assert len(set(wrapped)) > 4
    assert {core_of(text) for text in wrapped} == {question}


@pytest.mark.parametrize(
    "text",
    [
        'Which emotion is it? "Thank you so much!"',
        "What happens next? A dog came in. What happened?",
        "One evening, a pilot was flying a small airplane.",
        "How do you say 'I have a question' in French?",
        "Question 3 of the exam asks for entropy.",
        "Pick one. A. question. B. Help",
        "I am so sad. My friend moved away.",
    ],
)
def test_content_stays(text: str) -> None:
    assert core_of(text) == text


@pytest.mark.parametrize("text", ["hi", "Thanks!", "Could you help me, please?", "", "  ", "?!", "Question:"])
def test_a_prompt_of_courtesies_is_itself(text: str) -> None:
    assert core_of(text) == text or core_of(text) in text
    assert bool(core_of(text)) == bool(text)


def test_most_wrappers_of_a_writer_who_did_not_know_the_words_are_seen() -> None:
    rng, question = random.Random(0), QUESTIONS[0]
    same = [core_of(rng.choice(BEFORE) + question + rng.choice(AFTER)) == question for _ in range(400)]
    assert sum(same) / len(same) > 0.6


@given(st.text(max_size=80), st.sampled_from(BEFORE), st.sampled_from(AFTER))
def test_what_is_left_is_part_of_the_text_and_stays(text: str, before: str, after: str) -> None:
    core = core_of(before + text + after)
    assert core in before + text + after
    assert core_of(core) in core


@pytest.mark.parametrize("piece", ["\n", " ", ".", "hi, ", "hi. ", "thanks. ", "a , ", ". thanks , ", "- "])
def test_no_prompt_is_slow(piece: str) -> None:
    begun = time.perf_counter()
    core_of(piece * (100_000 // len(piece)) + "x")
    assert time.perf_counter() - begun < 0.5


def test_text_heads_and_encoders_read_the_core_of_the_last_turn_alone() -> None:
    before = (Message(role="user", content="Hi! Please help."), Message(role="assistant", content="Thanks!"))
    asked = (*before, Message(role="user", content="Hello! What is 2 + 2? Thank you."))
    assert text_of(asked) == "Hi! Please help.\n\nThanks!\n\nWhat is 2 + 2?"
    assert TextReader({"kind": "none"}).read([asked]).texts == (text_of(asked),)
