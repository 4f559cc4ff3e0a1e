"""The phrasings that training alone draws: they fill in, name their operands and are in no other split."""

from collections.abc import Iterable
from string import Formatter

import pytest

from pilothouse.specialists.starter.skills import arithmetic_more, facts, facts_own_more, words_more
from pilothouse.specialists.starter.skills.arithmetic_templates import EXPRESSIONS, FOLLOW_UPS, TEMPLATES
from pilothouse.specialists.starter.skills.example import unheard
from pilothouse.specialists.starter.skills.facts_phrases_more import MORE_PHRASES
from pilothouse.specialists.starter.skills.words_templates import TEMPLATES as TASKS


def fields(template: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(template) if name is not None)


def assert_all(templates: Iterable[str], wanted: list[str]) -> None:
    assert [t for t in templates if fields(t) != wanted] == []


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_every_operation_names_both_operands_in_full(kind: str) -> None:
    assert_all(arithmetic_more.IDIOMS[kind], ["a", "b"])
    assert_all(arithmetic_more.MORE_FOLLOW_UPS[kind], ["b"])
    for template in arithmetic_more.IDIOMS[kind]:
        filled = template.format(a=8412, b=937)
        assert filled.count("8412") == filled.count("937") == 1


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_nearly_every_operation_is_new_whatever_expression_an_older_one_holds(kind: str) -> None:
    older = [t.replace("{e}", e) for t in TEMPLATES[kind] for e in EXPRESSIONS[kind]]
    assert len(unheard(older, arithmetic_more.IDIOMS[kind])) >= 60
    assert len(unheard(FOLLOW_UPS[kind], arithmetic_more.MORE_FOLLOW_UPS[kind])) >= 25


@pytest.mark.parametrize("kind", sorted(facts.OWN))
def test_facts_gain_questions_and_phrases_that_name_the_subject(kind: str) -> None:
    assert_all((*facts_own_more.MORE_OWN[kind], *MORE_PHRASES[kind]), ["s"])
    questions, phrases = facts.unasked(kind)
    assert len(questions) >= 8
    assert len(phrases) >= 5


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_word_tasks_gain_phrasings_that_name_the_word(kind: str) -> None:
    assert_all(words_more.MORE_TASKS[kind], ["w"])
    assert len(unheard(TASKS[kind], words_more.MORE_TASKS[kind])) >= 12


def test_follow_ups_name_what_they_are_about() -> None:
    assert_all(facts_own_more.MORE_FOLLOW_UPS, ["s"])
    assert_all(words_more.MORE_FOLLOW_UPS, ["w"])


def test_only_train_and_fit_draw_the_new_facts_phrasings() -> None:
    empty: facts.Facts = {kind: {} for kind in facts.PHRASES}
    for split in ("train", "fit", "calibrate", "test"):
        writer = facts._Writer(empty, split, 0)
        ids = {str(i) for kind in writer.own for i, _ in writer.own[kind]}
        assert ("more-0" in ids) == (split in ("train", "fit"))
        assert (writer.phrases == {k: list(v) for k, v in facts.PHRASES.items()}) != ("more-0" in ids)


def test_a_phrase_that_reads_like_an_older_question_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, phrase = facts.template_pool(facts.FRAMES, "train")[0], facts.PHRASES["capital"][0]
    more = {**MORE_PHRASES, "capital": (phrase, "the city of cities of {s}")}
    own = {
        **facts_own_more.MORE_OWN,
        "capital": (frame.replace("{x}", phrase), "Which city leads {s}?"),
    }
    monkeypatch.setattr(facts, "MORE_PHRASES", more)
    monkeypatch.setattr(facts, "MORE_OWN", own)
    questions, phrases = facts.unasked.__wrapped__("capital")
    assert (questions, phrases) == (["Which city leads {s}?"], ["the city of cities of {s}"])
