"""The word pairs behind the word tasks: built-in lists, plus the function-vector and relation files when they
are there."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .sources import english_text
from .words_lists import (
    ADJECTIVES,
    ANTONYMS,
    IRREGULAR_DEGREES,
    IRREGULAR_PASTS,
    IRREGULAR_PLURALS,
    LONG_ADJECTIVES,
    NOUNS,
    REGULAR_VERBS,
    SYNONYMS,
    degree_of,
    past_of,
    plural_of,
)

VECTORS = Path("probing/function_vectors/function_vectors_datasets.tar.gz")
RELATIONS = Path("probing/relations_lre/relations_47.tar.gz")
LEXICAL_LIMIT = 500
TEXT_WORDS = 15_000
WORD = re.compile(r"[A-Za-z]+")

Pairs = dict[str, str]


@dataclass(frozen=True, slots=True)
class Words:
    """``pairs[kind]`` maps a word to its answer; ``plain`` holds all words, for spelling and lists.

    ``more`` are further words of the English texts, for training rows alone.
    """

    pairs: dict[str, Pairs]
    plain: tuple[str, ...]
    more: tuple[str, ...] = ()


@cache
def load_words(data: Path | None) -> Words:
    """Merge the built-in lists with what the data folder holds; a missing or unreadable file is left out."""
    vectors = _members(data / VECTORS if data else None)
    relations = _members(data / RELATIONS if data else None)
    fetched = {kind: _vector_pairs(vectors, name) for kind, name in _VECTOR_FILES.items()}
    tables = [_vector_pairs(vectors, name) for name in vectors if name in _VECTOR_FILES.values()]
    frequency = Counter(word for table in tables for pair in table.items() for word in pair)
    pairs = _built_in()
    for kind in ("plural", "past"):
        pairs[kind] = fetched[kind] | pairs[kind]
    for kind in ("antonym", "synonym"):
        pairs[kind] |= _common(fetched[kind], pairs[kind], frequency)
    for kind in ("comparative", "superlative"):
        pairs[kind] = _relation_pairs(relations, f"adj_{kind}") | pairs[kind]
    tables = [*pairs.values(), *fetched.values()]
    plain = {word for table in tables for pair in table.items() for word in pair if _short(word)}
    return Words(pairs, tuple(sorted(plain)), tuple(sorted(_text_words(data) - plain)))


def _text_words(data: Path | None) -> set[str]:
    """The most frequent short words of the English texts; none where the texts are missing."""
    try:
        documents = list(english_text(data)) if data else []
    except FileNotFoundError:
        return set()
    counts = Counter(word for text in documents for word in WORD.findall(text) if _short(word))
    return {word for word, _ in counts.most_common(TEXT_WORDS)}


def _short(word: str) -> bool:
    return _plain(word) and 2 < len(word) <= 10


_VECTOR_FILES = {
    "plural": "singular-plural",
    "past": "present-past",
    "antonym": "antonym",
    "synonym": "synonym",
    "length": "word_length",
}


def _built_in() -> dict[str, Pairs]:
    adjectives = (*ADJECTIVES, *LONG_ADJECTIVES, *IRREGULAR_DEGREES)
    antonyms = dict(ANTONYMS)
    for left, right in ANTONYMS:
        antonyms.setdefault(right, left)
    return {
        "plural": {noun: plural_of(noun) for noun in (*NOUNS, *IRREGULAR_PLURALS)},
        "past": {verb: past_of(verb) for verb in (*REGULAR_VERBS, *IRREGULAR_PASTS)},
        "antonym": {word: other for word, other in antonyms.items() if _plain(word) and _plain(other)},
        "synonym": {word: other for word, other in SYNONYMS.items() if _plain(other)},
        "comparative": {word: degree_of(word, "er") for word in adjectives},
        "superlative": {word: degree_of(word, "est") for word in adjectives},
    }


def _common(found: Pairs, known: Pairs, frequency: Counter[str]) -> Pairs:
    """Keep the pairs of the most widely used words, up to the limit: a small model cannot learn thousands of
    facts."""
    short = {word: other for word, other in found.items() if max(len(word), len(other)) <= 9}
    new = [pair for pair in short.items() if pair[0] not in known]
    new.sort(key=lambda pair: (-min(frequency[pair[0]], frequency[pair[1]]), pair))
    return dict(new[: max(0, LEXICAL_LIMIT - len(known))])


def _members(path: Path | None) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    found: dict[str, Any] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                stem = Path(member.name).stem
                if not member.name.endswith(".json") or stem not in _WANTED:
                    continue
                handle = archive.extractfile(member)
                if handle is not None:
                    found[stem] = json.load(handle)
    except (tarfile.TarError, OSError, ValueError):
        return {}
    return found


_WANTED = {*_VECTOR_FILES.values(), "adj_comparative", "adj_superlative"}


def _vector_pairs(members: dict[str, Any], name: str) -> Pairs:
    pairs: Pairs = {}
    for row in members.get(name, []):
        word, other = str(row["input"]).strip(), str(row["output"]).strip()
        if _plain(word) and (_plain(other) or other.isdigit()):
            pairs.setdefault(word, other)
    return pairs


def _relation_pairs(members: dict[str, Any], name: str) -> Pairs:
    rows = members.get(name, {}).get("samples", [])
    pairs = {str(row["subject"]): str(row["object"]) for row in rows}
    # "little: smallest" and "wrong: wrongest" are in the file, but nobody should be taught them
    return {word: form for word, form in pairs.items() if _plain(word) and word not in _DOUBTFUL}


_DOUBTFUL = ("little", "wrong", "true", "false", "mad")


def _plain(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.islower()
