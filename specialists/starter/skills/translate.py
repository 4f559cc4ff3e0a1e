"""Translate short everyday sentences between English and French, Spanish and German, in both directions.

The sentences come from a phrase grammar whose every sentence has exactly one translation a direction. A
sentence whose foreign form would fit two English ones ("daughter" and "girl" are both "fille") is only asked
for in the unambiguous direction. The English sentence is the row key, so a test sentence is unseen in every
direction; set phrases and closed lists (greetings, weekdays) cannot be derived and are rows of the training
split alone.
"""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from .asking_freely import FREE_FROM, FREE_TO, FREE_WORD_FROM, FREE_WORD_TO
from .asking_more import MORE_FROM, MORE_TO, MORE_WORD_FROM, MORE_WORD_TO
from .example import Example, Split, numbered_pool
from .translate_items import Item, draw, draw_short
from .translate_lexicon import LANGUAGES
from .translate_templates import AGAIN, FROM, OTHER, TO, WORD_FROM, WORD_TO

SKILL = "translate"
LANGUAGE_NAME = {"fr": "French", "es": "Spanish", "de": "German"}
HISTORY_SHARE = 0.08
POOLS = {"to": TO, "from": FROM, "wto": WORD_TO, "wfrom": WORD_FROM, "again": AGAIN, "other": OTHER}
MORE = {
    "to": MORE_TO + FREE_TO,
    "from": MORE_FROM + FREE_FROM,
    "wto": MORE_WORD_TO + FREE_WORD_TO,
    "wfrom": MORE_WORD_FROM + FREE_WORD_FROM,
}
CONTRACTIONS = (
    ("n't ", " not "),
    ("can not", "cannot"),
    ("I am ", "I'm "),
    (" is not ", " isn't "),
    (" are not ", " aren't "),
)


@cache
def _pool(name: str, split: Split) -> tuple[tuple[str, str], ...]:
    pool = numbered_pool(POOLS[name], MORE.get(name, ()), split)
    return tuple((f"{name}{number}", template) for number, template in pool)


def _contract(rng: random.Random, text: str) -> str:
    """Swap a full form and its contraction ("don't" and "do not"), which translate alike."""
    old, new = rng.choice(CONTRACTIONS)
    return text.replace(old, new).replace("can not", "cannot")


def _source(rng: random.Random, item: Item, language: str, to_english: bool) -> str:
    """Return the text to translate, sometimes without its full stop or capital, or with a contraction."""
    text = item.say(language) if to_english else item.key
    if item.alias and not to_english and rng.random() < 0.12:
        text = item.alias()
    if not item.sentence:
        return text
    if not to_english and rng.random() < 0.2:
        text = _contract(rng, text)
    roll = rng.random()
    if text[-1] in ".!" and " " in text and roll < 0.4:
        text = text[:-1].strip("¡ ")
    if text[0] == "¿" and roll < 0.15:
        text = text[1:]
    if roll < 0.2:
        text = (
            text
            if text.startswith(("I ", "I'")) or (language == "de" and to_english)
            else text[0].lower() + text[1:]
        )
    if to_english and language == "fr" and rng.random() < 0.2:
        text = re.sub(r" ([?!])$", r"\1", text)
    return text


def _fill(template: str, text: str, language: str) -> str:
    """Put text and language into a template; bare text inside gets its full stop back."""
    plain = "{x} How" in template or "{x}\n" in template or "{x} What" in template
    if plain and text and text[-1] not in ".?!":
        text += "."
    return template.format(x=text, lang=LANGUAGE_NAME[language], low=LANGUAGE_NAME[language].lower())


def _ask(rng: random.Random, split: Split, item: Item, language: str, to_english: bool) -> Example:
    side = "from" if to_english else "to"
    name, template = rng.choice(_pool("w" + side if item.word else side, split))
    prompt = _fill(template, _source(rng, item, language, to_english), language)
    answer = item.key if to_english else item.say(language)
    kind = f"{language}-en" if to_english else f"en-{language}"
    return Example(prompt, answer, SKILL, kind, name, "exact")


def _direction(rng: random.Random, item: Item, language: str) -> bool:
    return rng.random() < 0.5 and language not in item.one_way


def _follow(rng: random.Random, split: Split, first: Example, item: Item) -> Example:
    """Follow a turn by another text in the same direction, or by the same text in another language."""
    to_english = first.kind.endswith("-en")
    language = first.kind[:2] if to_english else first.kind[3:]
    history = ((first.prompt, first.answer),)
    if not to_english and rng.random() < 0.5:
        language = rng.choice([other for other in LANGUAGES if other != language])
        name, template = rng.choice(_pool("other", split))
        return Example(
            _fill(template, "", language), item.say(language), SKILL, f"en-{language}", name, "exact", history
        )
    following = draw(rng, split)
    while to_english and language in following.one_way:
        following = draw(rng, split)
    name, template = rng.choice(_pool("again", split))
    prompt = _fill(template, _source(rng, following, language, to_english), language)
    answer = following.key if to_english else following.say(language)
    return Example(prompt, answer, SKILL, first.kind, name, "exact", history)


def examples(split: Split, count: int, seed: int, data: Path | None = None) -> list[Example]:
    """Return ``count`` translation rows of a split, the same for the same arguments; ``data`` is not used."""
    rng = random.Random(f"translate-{split}-{seed}")
    found = []
    for _ in range(count):
        item, language = draw(rng, split), rng.choice(LANGUAGES)
        example = _ask(rng, split, item, language, _direction(rng, item, language))
        found.append(_follow(rng, split, example, item) if rng.random() < HISTORY_SHARE else example)
    return found


def drills(count: int, seed: int) -> list[Example]:
    """Return ``count`` lessons on words and noun phrases alone: what most wrong sentences get wrong is a
    rare word, or its gender.
    """
    rng = random.Random(f"translate-drills-{seed}")
    found = []
    for _ in range(count):
        item, language = draw_short(rng), rng.choice(LANGUAGES)
        found.append(_ask(rng, "train", item, language, _direction(rng, item, language)))
    return found


def monolingual(language: str, count: int, seed: int) -> list[str]:
    """Return ``count`` sentences of the training split in "en", "fr", "es" or "de"."""
    rng = random.Random(f"monolingual-{seed}")
    found: list[str] = []
    while len(found) < count:
        item = draw(rng, "train")
        if item.sentence:
            found.append(item.key if language == "en" else item.say(language))
    return found


@cache
def vocabulary(language: str) -> frozenset[str]:
    """Return the lower-case words that the grammar emits in a language (from a large fixed sample)."""
    words: set[str] = set()
    rng = random.Random("vocabulary")
    for _ in range(60_000):
        item = draw(rng, "train")
        text = item.key if language == "en" else item.say(language)
        words.update(re.findall(r"[^\W\d_]+", text.lower()))
    return frozenset(words)
