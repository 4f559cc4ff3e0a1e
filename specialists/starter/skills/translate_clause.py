"""What a sentence of the translation grammar says, before any language says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .translate_lexicon import Adjective, Noun, Verb

Adverb = tuple[str, str, str, str]
LANGUAGE_INDEX = {"en": 0, "fr": 1, "es": 2, "de": 3}
PERSONS = ("I", "you", "he", "she", "we", "they")
FORM = (0, 1, 2, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase; ``det`` is the, a, bare, this, my, your, his, her, our or their; or a number."""

    noun: Noun
    det: str
    plural: bool = False
    adjective: Adjective | None = None
    number: Adverb | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A pronoun (``person`` 0 to 5: I, you, he, she, we, they) or a noun phrase (then person is 2 or 5)."""

    person: int
    phrase: Phrase | None = None

    @property
    def form(self) -> int:
        """Index into five conjugated forms."""
        return FORM[self.person]

    @property
    def plural(self) -> bool:
        """Whether adjectives that agree with the subject are plural."""
        return self.phrase.plural if self.phrase else self.person > 3

    def feminine(self, language: str) -> bool:
        """Whether adjectives that agree with the subject are feminine in ``language``."""
        if self.phrase is None:
            return self.person == 3
        word = getattr(self.phrase.noun, language)
        return word.gender in ("f", "x")


Tense = Literal["present", "past", "want", "can", "must", "going", "like"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause: subject, verb, object and adverbials; ``verb`` is None for "to be".

    ``place`` is a fixed adverbial; ``spot`` and ``company`` are a preposition with a place or a person.
    """

    subject: Subject
    verb: Verb | None = None
    tense: Tense = "present"
    negative: bool = False
    question: bool = False
    object: Phrase | None = None
    predicate: Adjective | None = None
    degree: Adverb | None = None
    place: Adverb | None = None
    spot: tuple[tuple[str, ...], Phrase] | None = None
    company: tuple[tuple[str, ...], Phrase] | None = None
    time: Adverb | None = None
    frequency: Adverb | None = None
    ask: Adverb | None = None
