"""The translation grammar: one translation a direction, correct forms, splits apart."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from pilothouse.specialists.starter.skills import translate, translate_templates
from pilothouse.specialists.starter.skills.example import SPLITS
from pilothouse.specialists.starter.skills.lexicon_phrases import PHRASES
from pilothouse.specialists.starter.skills.translate_clause import Clause, Phrase, Subject
from pilothouse.specialists.starter.skills.translate_french import clause as french
from pilothouse.specialists.starter.skills.translate_german import clause as german
from pilothouse.specialists.starter.skills.translate_items import COMPANY, SPOTS, TIME, draw
from pilothouse.specialists.starter.skills.translate_lexicon import ADJECTIVE, LANGUAGES, NOUN, VERB
from pilothouse.specialists.starter.skills.translate_spanish import clause as spanish
from pilothouse.specialists.starter.skills.translate_words import dictionary


def test_no_source_has_two_translations_over_twenty_thousand_draws() -> None:
    found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    rng = random.Random(0)
    for _ in range(20_000):
        item = draw(rng, "train")
        for language in LANGUAGES:
            text = item.say(language)
            found["en", language, item.key].add(text)
            if language not in item.one_way:
                found[language, "en", text].add(item.key)
    assert {source: texts for source, texts in found.items() if len(texts) > 1} == {}
    assert len(found) > 50_000


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_more_than_six_hundred_words(language: str) -> None:
    entries = dictionary(language)
    assert len({word for _, word in entries}) >= 600
    assert len({key for key, _ in entries}) == len(entries)


def test_there_are_enough_templates_and_test_templates_are_unseen() -> None:
    assert len(translate_templates.TO) >= 25
    used = {split: {e.template for e in translate.examples(split, 1500, 0)} for split in SPLITS}
    assert not used["test"] & (used["train"] | used["fit"] | used["calibrate"])
    assert not used["calibrate"] & (used["train"] | used["fit"])


def test_no_sentence_is_in_two_splits() -> None:
    rng = random.Random(1)
    keys = {split: {draw(rng, split).key for _ in range(2000)} for split in SPLITS}
    for first in SPLITS:
        for second in SPLITS:
            assert first == second or not keys[first] & keys[second]


def test_set_phrases_are_train_only() -> None:
    fixed = {line.split("|")[0] for line in PHRASES.strip().splitlines()}
    rng = random.Random(2)
    assert not fixed & {draw(rng, "test").key for _ in range(1000)}
    assert fixed & {draw(rng, "train").key for _ in range(1000)}


def test_examples_are_deterministic_and_cover_the_six_directions() -> None:
    rows = translate.examples("train", 3000, 4)
    assert rows == translate.examples("train", 3000, 4)
    assert rows != translate.examples("train", 3000, 5)
    assert {row.kind for row in rows} == {f"en-{x}" for x in LANGUAGES} | {f"{x}-en" for x in LANGUAGES}
    assert 0.05 < sum(bool(row.history) for row in rows) / len(rows) < 0.12


def test_drills_are_short_lessons_of_the_training_split_in_every_direction() -> None:
    found = translate.drills(600, 3)
    assert found == translate.drills(600, 3) != translate.drills(600, 4)
    assert len({example.kind for example in found}) == 6
    assert all(len(example.answer.split()) <= 6 and not example.history for example in found)
    nouns = [e for e in found if e.kind == "en-de" and len(e.answer.split()) > 1]
    assert (
        0.3 < len(nouns) / sum(e.kind == "en-de" for e in found) < 0.7
    )  # words, and phrases that show gender
    rng = random.Random(5)
    english = {e.answer for e in found if e.kind.endswith("-en")}
    assert len(english) > 100
    assert not english & {draw(rng, "test").key for _ in range(4000)}


def test_answers_never_stand_in_a_template_hole() -> None:
    for row in translate.examples("train", 3000, 6):
        assert "{" not in row.prompt
        assert row.answer == row.answer.strip()
        assert "  " not in row.answer


BOY, APPLE, WATER = NOUN["boy"], NOUN["apple"], NOUN["water"]
CASES = [
    (
        Clause(
            Subject(3),
            VERB["go"],
            "past",
            place=("home", "à la maison", "a casa", "nach Hause"),
            time=TIME["<"][0],
        ),
        ("Elle est allée à la maison hier.", "Ella fue a casa ayer.", "Sie ist gestern nach Hause gegangen."),
    ),
    (
        Clause(Subject(0), VERB["eat"], negative=True, object=Phrase(APPLE, "a")),
        ("Je ne mange pas de pomme.", "No como una manzana.", "Ich esse keinen Apfel."),
    ),
    (
        Clause(Subject(0), VERB["see"], object=Phrase(BOY, "the")),
        ("Je vois le garçon.", "Veo al chico.", "Ich sehe den Jungen."),
    ),
    (
        Clause(Subject(4), VERB["drink"], object=Phrase(WATER, "bare")),
        ("Nous buvons de l'eau.", "Bebemos agua.", "Wir trinken Wasser."),
    ),
    (
        Clause(Subject(2, Phrase(NOUN["friend"], "my")), VERB["like"], object=Phrase(APPLE, "bare", True)),
        ("Mon ami aime les pommes.", "A mi amigo le gustan las manzanas.", "Mein Freund mag Äpfel."),
    ),
    (
        Clause(Subject(5, Phrase(NOUN["house"], "the", True)), question=True, predicate=ADJECTIVE["old"]),
        ("Est-ce que les maisons sont vieilles ?", "¿Las casas son viejas?", "Sind die Häuser alt?"),
    ),
    (
        Clause(Subject(1), VERB["invite"], "want", company=None, object=Phrase(NOUN["neighbour"], "our")),
        (
            "Tu veux inviter notre voisin.",
            "Quieres invitar a nuestro vecino.",
            "Du willst unseren Nachbarn einladen.",
        ),
    ),
    (
        Clause(Subject(0), VERB["sing"], company=(COMPANY[0], Phrase(NOUN["child"], "the", True))),
        ("Je chante avec les enfants.", "Canto con los niños.", "Ich singe mit den Kindern."),
    ),
    (
        Clause(Subject(2, Phrase(NOUN["bear"], "the")), spot=(SPOTS[1][0], Phrase(NOUN["table"], "the"))),
        ("L'ours est sur la table.", "El oso está sobre la mesa.", "Der Bär ist auf dem Tisch."),
    ),
    (
        Clause(Subject(0), VERB["see"], object=Phrase(NOUN["bear"], "this", False, ADJECTIVE["beautiful"])),
        ("Je vois ce bel ours.", "Veo este oso hermoso.", "Ich sehe diesen schönen Bären."),
    ),
]


@pytest.mark.parametrize(("said", "texts"), CASES)
def test_known_sentences(said: Clause, texts: tuple[str, str, str]) -> None:
    assert (french(said), spanish(said), german(said)) == texts


def test_monolingual_sentences_stay_within_the_vocabulary() -> None:
    sentences = translate.monolingual("de", 200, 3)
    assert len(sentences) == 200
    assert sentences == translate.monolingual("de", 200, 3)
    words = translate.vocabulary("de")
    assert {"ich", "haus", "heute"} <= words
    seen = {word.strip(".?!,").lower() for s in sentences for word in s.split()}
    assert len(seen & words) > 0.97 * len(seen)


def test_other_languages_do_not_share_the_vocabulary() -> None:
    assert not {"maison", "perro", "aujourd"} & translate.vocabulary("de")
