"""Word tasks: forms, letters, opposites, order.

Rule-like kinds (plural, past, degrees, spelling, letters, capitals, length, choosing from a list) are tested
on words that no training row of the kind used. Lexical rows (antonyms, synonyms, irregular forms, named
sequences) cannot be guessed for unseen words, so all splits hold them and the test asks for trained words in
an unseen phrasing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from .asking_more import MORE_WORDS
from .example import Check, Example, Split, row_split, wider_pool
from .words_data import Words, load_words
from .words_lists import (
    IRREGULAR_DEGREES,
    IRREGULAR_PASTS,
    IRREGULAR_PLURALS,
    LONG_ADJECTIVES,
    SEQUENCES,
    degree_of,
    past_of,
    plural_of,
)
from .words_more import MORE_FOLLOW_UPS, MORE_TASKS
from .words_templates import FOLLOW_UPS, TEMPLATES

KINDS = tuple(TEMPLATES)
WEIGHTS = {"antonym": 3.0, "synonym": 2.5, "past": 2.0, "plural": 2.0, "spell": 1.5, "length": 1.5}
# in training: more of what is hardest
LESSON_WEIGHTS = {
    **WEIGHTS,
    "past": 2.5,
    "plural": 2.5,
    "spell": 2.0,
    "length": 2.0,
    "uppercase": 1.5,
    "reverse_list": 1.5,
}
HISTORY_SHARE = 0.08
REGULAR_SHARE = 0.6
IRREGULAR = {
    "plural": frozenset(IRREGULAR_PLURALS),
    "past": frozenset(IRREGULAR_PASTS),
    "comparative": frozenset((*IRREGULAR_DEGREES, *LONG_ADJECTIVES)),
    "superlative": frozenset((*IRREGULAR_DEGREES, *LONG_ADJECTIVES)),
}
RULES: dict[str, Callable[[str], str]] = {
    "plural": plural_of,
    "past": past_of,
    "comparative": lambda word: degree_of(word, "er"),
    "superlative": lambda word: degree_of(word, "est"),
}
LEXICAL = ("antonym", "synonym")
# Behind a space, a word has the tokens it has in the prompt, so that most of the answer is a copy.
COPIED = frozenset(
    (
        *RULES,
        *LEXICAL,
        "capitalize",
        "choose_first",
        "choose_last",
        "choose_middle",
        "reverse_list",
        "alphabetical_first",
    )
)
LISTS = ("choose_first", "choose_last", "choose_middle", "reverse_list", "alphabetical_first")


def examples(split: Split, count: int, seed: int, data: Path | None) -> list[Example]:
    """Return ``count`` rows, the same ones for the same ``(split, count, seed)`` and data folder."""
    rng = Random(f"words:{split}:{seed}")
    words = load_words(data)
    weights = LESSON_WEIGHTS if split == "train" else WEIGHTS
    kinds = rng.choices(KINDS, [weights.get(kind, 1.0) for kind in KINDS], k=count)
    return [_example(rng, kind, split, words) for kind in kinds]


def _example(rng: Random, kind: str, split: Split, words: Words) -> Example:
    asked, answer = _row(rng, kind, split, words)
    check: Check = "number" if kind == "length" else "exact"
    template = rng.choice(_pool(kind, split))
    opening = _roughened(rng, template.format(w=asked))
    begins = " " if kind in COPIED else ""
    if rng.random() >= HISTORY_SHARE:
        return Example(opening, begins + answer, "words", kind, f"{kind}/{template}", check)
    follow = rng.choice(_follow_pool(split))
    then, second = _row(rng, kind, split, words)
    name = f"{kind}/then/{follow}"
    return Example(follow.format(w=then), begins + second, "words", kind, name, check, ((opening, answer),))


@cache
def _pool(kind: str, split: Split) -> list[str]:
    return wider_pool(TEMPLATES[kind], (*MORE_WORDS[kind], *MORE_TASKS[kind]), split)


@cache
def _follow_pool(split: Split) -> list[str]:
    return wider_pool(FOLLOW_UPS, MORE_FOLLOW_UPS, split)


def _roughened(rng: Random, text: str) -> str:
    if rng.random() < 0.15:
        text = text[0].lower() + text[1:]
    return text.rstrip("?.") if rng.random() < 0.15 else text


def _row(rng: Random, kind: str, split: Split, words: Words) -> tuple[str, str]:
    """Draw what is asked about, and its answer, from the rows of ``split``."""
    if kind in LISTS:
        return _list_row(rng, kind, split, words)
    if kind in ("next", "previous"):
        return _sequence_row(rng, kind, split)
    if kind in words.pairs:
        lexical, regular = _pair_rows(kind, split, words)
        return rng.choice(regular if regular and rng.random() < REGULAR_SHARE else lexical)
    word = rng.choice(_plain_rows(kind, split, words))
    return word, LETTERS[kind](word)


_ROWS: dict[tuple[str, Split, int], tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {}
_PLAIN: dict[tuple[str, Split, int], list[str]] = {}


def _pair_rows(kind: str, split: Split, words: Words) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the lexical rows, which all splits hold, and the split's own rows that follow a rule."""
    key = (kind, split, id(words))
    if key not in _ROWS:
        lexical, regular = [], []
        for word, answer in sorted(words.pairs[kind].items()):
            if _lexical(kind, word, answer):
                lexical.append((word, answer))
            elif row_split(f"{kind}:{word}") == split:
                regular.append((word, answer))
        _ROWS[key] = lexical, regular
    return _ROWS[key]


def _lexical(kind: str, word: str, answer: str) -> bool:
    """Return whether an answer has to be known: no rule gives it, or the word is listed as irregular."""
    return kind in LEXICAL or word in IRREGULAR[kind] or RULES[kind](word) != answer


def _plain_rows(kind: str, split: Split, words: Words) -> list[str]:
    key = (kind, split, id(words))
    if key not in _PLAIN:
        pool = (*words.plain, *words.more) if split == "train" else words.plain
        _PLAIN[key] = [word for word in pool if row_split(f"{kind}:{word}") == split]
    return _PLAIN[key]


def _sequence_row(rng: Random, kind: str, split: Split) -> tuple[str, str]:
    step = 1 if kind == "next" else -1
    if rng.random() < 0.4:
        while True:
            number = rng.randrange(1, 10 ** rng.randint(1, 3))
            if row_split(f"{kind}:{number}") == split:
                return str(number), str(number + step)
    sequence = rng.choice(SEQUENCES)
    place = rng.randrange(len(sequence) - 1)
    asked, answer = sequence[place], sequence[place + 1]
    return (asked, answer) if step == 1 else (answer, asked)


def _list_row(rng: Random, kind: str, split: Split, words: Words) -> tuple[str, str]:
    size = rng.choice((3, 5)) if kind == "choose_middle" else rng.randint(3, 5)
    if kind == "alphabetical_first":
        size = 3
    items = rng.sample(_plain_rows(kind, split, words), size)
    return ", ".join(items), CHOOSERS[kind](items)


def _counted(word: str) -> str:
    """Number the letters, so that the length is the number last written."""
    return " ".join(f"{letter}{place}" for place, letter in enumerate(word, 1)) + f". Answer: {len(word)}"


LETTERS: dict[str, Callable[[str], str]] = {
    "spell": "-".join,
    "first_letter": lambda word: word[0],
    "last_letter": lambda word: word[-1],
    "capitalize": str.capitalize,
    "uppercase": str.upper,
    "length": _counted,
}
CHOOSERS: dict[str, Callable[[list[str]], str]] = {
    "choose_first": lambda items: items[0],
    "choose_last": lambda items: items[-1],
    "choose_middle": lambda items: items[len(items) // 2],
    "reverse_list": lambda items: ", ".join(reversed(items)),
    "alphabetical_first": min,
}
