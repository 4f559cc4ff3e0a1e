"""Draw something to translate: a clause, a frame, a noun phrase, a word or a set phrase."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import translate_english, translate_french, translate_german, translate_spanish
from .example import Split, row_split
from .lexicon_words import COMPANIONS, FREQUENCY, TIMES, TOWARDS, WHERE
from .translate_clause import LANGUAGE_INDEX, Adverb, Clause, Phrase, Subject, Tense
from .translate_frames import FRAMES as PLAIN_FRAMES
from .translate_frames import SPOTS, pick_phrase
from .translate_frames_more import MORE_FRAMES
from .translate_lexicon import (
    INTRANSITIVE,
    NOUN,
    PREDICATES,
    TRANSITIVE,
    VERB,
    Adjective,
    Noun,
    Verb,
    noun_set,
    rows,
)
from .translate_words import NONE, by_heart, one_way, phrases, words

SAY: dict[str, Callable[[Clause], str]] = {
    "en": translate_english.clause,
    "fr": translate_french.clause,
    "es": translate_spanish.clause,
    "de": translate_german.clause,
}


def _adverbs(table: str) -> list[Adverb]:
    return [(row[0], row[1], row[2], row[3]) for row in rows(table)]


TIME: dict[str, list[Adverb]] = {
    sign: [(r[1], r[2], r[3], r[4]) for r in rows(TIMES) if r[0] == sign] for sign in "=<>"
}
OFTEN, PLACE, GOAL = _adverbs(FREQUENCY), _adverbs(WHERE), _adverbs(TOWARDS)
COMPANY = [tuple(row) for row in rows(COMPANIONS)]
DEGREES: list[Adverb] = [("very", "très", "muy", "sehr"), ("too", "trop", "demasiado", "zu")]
PEOPLE, ANIMALS = noun_set("person,family"), noun_set("animal")
LIVING = PEOPLE + ANIMALS
MOVABLE = noun_set("animal,thing,clothes,read,open,person,family,food")
NAMEABLE = tuple(NOUN.values())
FRAMES = PLAIN_FRAMES + MORE_FRAMES
TENSES: tuple[Tense, ...] = ("present", "past", "want", "can", "must", "going", "like")


@dataclass(frozen=True, slots=True)
class Item:
    """Something to translate: ``key`` is the English text, ``one_way`` the languages it is not asked from.

    ``sentence`` and ``word`` tell sentences, words and noun phrases (neither) apart; ``alias`` says the
    same in other English words ("I am eating" for "I eat").
    """

    key: str
    say: Callable[[str], str]
    one_way: frozenset[str]
    sentence: bool = True
    word: bool = False
    alias: Callable[[], str] | None = None


def _phrase_keys(np: Phrase | None) -> tuple[str, ...]:
    if np is None:
        return ()
    return (np.noun.key, np.adjective.key, np.det) if np.adjective else (np.noun.key, np.det)


STATIVE = frozenset(("have", "know", "love", "hate", "like", "see", "understand", "live", "hear", "forget"))


def _clause_item(c: Clause) -> Item:
    verb = ("to " + c.verb.key,) if c.verb else ()
    nouns = _phrase_keys(c.subject.phrase) + _phrase_keys(c.object)
    nouns += _phrase_keys(c.spot[1] if c.spot else None) + _phrase_keys(c.company[1] if c.company else None)
    keys = nouns + ((c.predicate.key,) if c.predicate else ())
    blocked = one_way(keys) | (NONE if c.object or not verb else one_way(verb))
    plain = c.tense == "present" and not c.frequency and (c.time is None or c.time[0] in ("today", "now"))
    alias: Callable[[], str] | None = None
    if plain and c.verb and c.verb.key not in STATIVE:
        alias = partial(translate_english.clause, c, True)
    return Item(SAY["en"](c), lambda language: SAY[language](c), blocked, alias=alias)


def _subject(rng: random.Random, nouns: tuple[Noun, ...] = PEOPLE, pronoun: float = 0.6) -> Subject:
    if rng.random() < pronoun:
        return Subject(rng.randrange(6))
    np = pick_phrase(rng, nouns, "the the the my my your his our this her their")
    return Subject(5 if np.plural else 2, np)


def _mood(rng: random.Random) -> tuple[bool, bool]:
    """Return (negative, question); at most one is true."""
    roll = rng.random()
    return roll < 0.2, 0.2 <= roll < 0.36


def _tense(rng: random.Random, verb: Verb) -> Tense:
    if verb.key in ("know", "love", "hate", "have", "understand"):
        return "present"
    return rng.choices(TENSES, (50, 18, 9, 8, 5, 7, 5))[0]


def _time(rng: random.Random, tense: Tense) -> Adverb | None:
    if tense == "past":
        return rng.choice(TIME["<"])
    if tense == "going":
        return rng.choice(TIME[">"])
    return rng.choice(TIME["="]) if tense == "present" and rng.random() < 0.3 else None


def _object(rng: random.Random, verb: Verb, tense: Tense) -> Phrase:
    noun = rng.choice(verb.objects)
    dets = (
        (
            "the a a my your his our this her bare bare"
            if noun.kind == "food"
            else "the the a a my your his our this her their bare"
        )
        if tense != "like"
        else "bare"
    )
    if noun.human:
        dets = "a the my my your his our this" if verb.key != "have" else "a"
    if verb.key in ("hate", "pay for"):
        dets = "the my your his our this"
    if verb.key == "love":
        dets = "my your his our"
    if noun.mass:
        return Phrase(
            noun, "bare" if (rng.random() < 0.75 and verb.key != "pay for") or tense == "like" else "the"
        )
    np = pick_phrase(rng, (noun,), dets)
    if np.det == "bare" and not np.number:
        return Phrase(noun, "bare", True)
    return np


def transitive(rng: random.Random) -> Item:
    """She reads a book today."""
    verb = rng.choice(TRANSITIVE)
    tense = _tense(rng, verb)
    negative, question = _mood(rng)
    if tense == "must":
        negative = False
    thing = _object(rng, verb, tense)
    time = None if verb.key in ("know", "love", "hate", "have") else _time(rng, tense)
    often = None
    if (
        tense == "present"
        and not (negative or question or time)
        and verb.key not in ("know", "love")
        and rng.random() < 0.12
    ):
        often = rng.choice(OFTEN)
    if (tense == "like" and thing.det == "bare") or thing.number:
        negative = False
    c = Clause(_subject(rng), verb, tense, negative, question, thing, time=time, frequency=often)
    return _clause_item(c)


def intransitive(rng: random.Random) -> Item:
    """The children play in the garden."""
    verb = rng.choice(INTRANSITIVE)
    tense = _tense(rng, verb)
    negative, question = _mood(rng)
    if tense == "must":
        negative = False
    placed = verb.key not in ("arrive", "come") and rng.random() < 0.35
    place = rng.choice(PLACE) if placed else None
    company = None
    if (
        place is None
        and verb.key in ["play", "sing", "dance", "work", "travel", "swim", "walk", "run", "study", "cook"]
        and rng.random() < 0.4
    ):
        company = (rng.choice(COMPANY[:2]), pick_phrase(rng, PEOPLE, "my your his our the"))
    time = _time(rng, tense)
    often = None
    if tense == "present" and not (negative or question or time) and rng.random() < 0.2:
        often = rng.choice(OFTEN)
    who = _subject(rng, LIVING if verb.key in ("sleep", "run", "swim", "play") else PEOPLE)
    c = Clause(who, verb, tense, negative, question, place=place, company=company, time=time, frequency=often)
    return _clause_item(c)


def motion(rng: random.Random) -> Item:
    """We go to the beach tomorrow; my aunt lives in Berlin."""
    negative, question = _mood(rng)
    who = _subject(rng)
    if rng.random() < 0.25:
        place = rng.choice(PLACE[-9:])
        return _clause_item(Clause(who, VERB["live"], "present", negative, question, place=place))
    tense = rng.choices(TENSES, (50, 25, 12, 4, 8, 8, 0))[0]
    negative = negative and tense != "must"
    return _clause_item(
        Clause(who, VERB["go"], tense, negative, question, place=rng.choice(GOAL), time=_time(rng, tense))
    )


def wh_question(rng: random.Random) -> Item:
    """When does your brother work? What do they eat?"""
    ask = rng.choice(ASKS)
    verb = rng.choice(EDIBLE) if ask[0] == "what" else rng.choice(INTRANSITIVE)
    tense = rng.choices(TENSES[:4], (60, 20, 10, 10))[0]
    time = rng.choice(TIME["<"]) if tense == "past" and ask[0] != "when" else None
    if tense == "past" and time is None:
        tense = "present"
    if ask[0] == "what" and tense == "past":
        tense, time = "present", None
    return _clause_item(Clause(_subject(rng), verb, tense, question=True, ask=ask, time=time))


ASKS: list[Adverb] = [
    ("what", "qu'est-ce que", "qué", "was"),
    ("when", "quand est-ce que", "cuándo", "wann"),
    ("where", "où est-ce que", "dónde", "wo"),
    ("why", "pourquoi est-ce que", "por qué", "warum"),
]
EDIBLE = tuple(
    VERB[k]
    for k in [
        "eat",
        "drink",
        "see",
        "buy",
        "sell",
        "read",
        "write",
        "look_for",
        "find",
        "bring",
        "take",
        "choose",
        "wear",
        "hide",
        "draw",
    ]
)


def liking(rng: random.Random) -> Item:
    """My sister likes apples."""
    negative, question = _mood(rng)
    noun = rng.choice(noun_set("food,mass,drink,animal"))
    thing = Phrase(noun, "bare", not noun.mass)
    return _clause_item(Clause(_subject(rng), VERB["like"], "present", negative, question, thing))


def description(rng: random.Random) -> Item:
    """The house is not very big."""
    adjective: Adjective = rng.choice(PREDICATES)
    who = _subject(rng, adjective.nouns, 0.5 if any(n.human for n in adjective.nouns) else 0)
    if who.phrase and who.phrase.adjective:
        who = Subject(who.person, Phrase(who.phrase.noun, who.phrase.det, who.phrase.plural))
    negative, question = _mood(rng)
    past = adjective.estar and rng.random() < 0.2
    time = rng.choice(TIME["<"][:2]) if past else None
    degree = rng.choice(DEGREES) if adjective.key not in FLAT and rng.random() < 0.25 else None
    return _clause_item(
        Clause(
            who,
            None,
            "past" if past else "present",
            negative,
            question,
            predicate=adjective,
            degree=degree,
            time=time,
        )
    )


FLAT = ["delicious", "closed", "open", "broken", "cheap", "alone", "purple", "pink", "ready"]


def location(rng: random.Random) -> Item:
    """The cat is under the table."""
    negative, question = _mood(rng)
    if rng.random() < 0.35:
        return _clause_item(
            Clause(_subject(rng), None, "present", negative, question, place=rng.choice(PLACE))
        )
    spot, homes = rng.choice(SPOTS)
    home = Phrase(rng.choice(homes), "the")
    who = _subject(rng, MOVABLE, 0.1)
    if who.phrase and who.phrase.noun is home.noun:
        return location(rng)
    return _clause_item(Clause(who, None, "present", negative, question, spot=(spot, home)))


def frame(rng: random.Random) -> Item:
    """One of the frames (there is, where is, I am hungry …)."""
    make = rng.choices([f for f, _ in FRAMES], [w for _, w in FRAMES])[0]
    four, keys = make(rng)
    return Item(four[0], lambda language: four[LANGUAGE_INDEX[language]], one_way(keys))


def noun_phrase(rng: random.Random) -> Item:
    """The red car; two cats; my mother."""
    np = pick_phrase(rng, NAMEABLE, "the a my your his our this her their")

    def say(language: str) -> str:
        if language == "fr":
            return translate_french.join(translate_french.phrase(np))
        return translate_spanish.phrase(np) if language == "es" else translate_german.phrase(np)

    return Item(translate_english.phrase(np), say, one_way(_phrase_keys(np)), False)


def _fixed(key: str, texts: tuple[str, ...], sentence: bool) -> Item:
    return Item(
        key, lambda language: texts[LANGUAGE_INDEX[language] - 1], one_way((key,)), sentence, not sentence
    )


def single_word(rng: random.Random) -> Item:
    """House; to eat; Monday."""
    key, texts = rng.choice(words())
    return _fixed(key, texts, False)


def set_phrase(rng: random.Random) -> Item:
    """Good morning!"""
    row = rng.choice(phrases())
    return _fixed(row[0], row[1:], True)


MAKERS: tuple[tuple[Callable[[random.Random], Item], float], ...] = (
    (transitive, 26),
    (intransitive, 11),
    (motion, 6),
    (wh_question, 5),
    (liking, 4),
    (description, 12),
    (location, 6),
    (frame, 13),
    (noun_phrase, 8),
    (single_word, 9),
    (set_phrase, 5),
)
_MAKE, _WEIGHT = [m for m, _ in MAKERS], [w for _, w in MAKERS]


def draw(rng: random.Random, split: Split) -> Item:
    """Draw an item whose English text belongs to ``split``; what is learned by heart belongs to train."""
    return _of_split(lambda: rng.choices(_MAKE, _WEIGHT)[0](rng), split)


def draw_short(rng: random.Random) -> Item:
    """Draw a word or a noun phrase of the training split."""
    return _of_split(lambda: rng.choice((single_word, noun_phrase))(rng), "train")


def _of_split(make: Callable[[], Item], split: Split) -> Item:
    while True:
        item = make()
        owner = "train" if by_heart(item.key) else row_split(item.key)
        if owner == split:
            return item
