"""Single words and set phrases, and which of them share a word with another entry in some language."""

from __future__ import annotations

from functools import cache

from .lexicon_phrases import PHRASES, WORDS
from .translate_clause import LANGUAGE_INDEX
from .translate_frames import NUMBER
from .translate_lexicon import ADJECTIVE, LANGUAGES, NOUN, VERB, rows


def _collisions() -> dict[str, frozenset[str]]:
    """Map a key to the languages where an earlier entry has the same word ("daughter" → fr "fille")."""
    found: dict[str, set[str]] = {}
    for language in LANGUAGES:
        seen: dict[str, str] = {}
        for key, word in dictionary(language) + _greetings(language):
            if seen.setdefault(word.lower(), key) != key:
                found.setdefault(key, set()).add(language)
    return {key: frozenset(languages) for key, languages in found.items()}


def dictionary(language: str) -> list[tuple[str, str]]:
    """Return (English, word) for every entry, verbs as infinitives."""
    index = LANGUAGE_INDEX[language]
    entries = [(noun.key, getattr(noun, language).singular) for noun in NOUN.values()]
    entries += [(a.key, (a.fr[0], a.es[0], a.de[0])[index - 1]) for a in ADJECTIVE.values()]
    verbs = [v for v in VERB.values() if not v.de.linker and v.key not in ("can", "must")]
    entries += [("to " + v.key, getattr(v, language).infinitive) for v in verbs]
    entries += [(n[0], n[index]) for n in NUMBER]
    return entries + [(row[0], row[index]) for row in rows(WORDS)]


def _greetings(language: str) -> list[tuple[str, str]]:
    return [(row[0], row[LANGUAGE_INDEX[language]]) for row in rows(PHRASES)]


# "Her" and "their" share their form with "his" in some languages and are only translated into those.
ONE_WAY = _collisions() | {"her": frozenset(LANGUAGES), "their": frozenset({"es", "de"})}
NONE: frozenset[str] = frozenset()


def one_way(keys: tuple[str, ...]) -> frozenset[str]:
    """Return the languages in which one of the entries shares its word with another entry."""
    return frozenset().union(*(ONE_WAY.get(key, NONE) for key in keys))


@cache
def words() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return every single word once: English and its three translations."""
    columns = [dict(reversed(dictionary(language))) for language in LANGUAGES]
    return tuple((key, tuple(column[key] for column in columns)) for key in dict(dictionary("fr")))


def by_heart(key: str) -> bool:
    """Whether a word or set phrase cannot be derived from sentences and so belongs to training alone."""
    return key in _MEMORY


_MEMORY = frozenset(row[0] for row in rows(WORDS)) | frozenset(row[0] for row in rows(PHRASES))


@cache
def phrases() -> tuple[tuple[str, ...], ...]:
    """Return the set phrases: English, French, Spanish, German."""
    return tuple(tuple(row) for row in rows(PHRASES))
