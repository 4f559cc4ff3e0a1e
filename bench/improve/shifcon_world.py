"""The world of the ShifCon section: five languages of disjoint words, whose facts are told in English and in
part in the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from ...specialists.improve.data import Data, Row, made
from ...specialists.starter.tokenizer import SPECIALS, save_tokenizer
from ...specialists.tokenizing import ChatCodec
from . import toys

DOMINANT = "en"
ENTITIES, RELATIONS, OBJECTS = 40, 4, 20
KINDS = {"e": ENTITIES, "r": RELATIONS, "o": OBJECTS}
# a language's share of the rows, and how many of an entity's relations it is told
LANGUAGES = {"en": (0.6, RELATIONS), "xx": (0.1, 2), "yy": (0.1, 2), "zz": (0.1, 1), "ww": (0.1, 1)}
LOW = tuple(name for name in LANGUAGES if name != DOMINANT)
LAYERS, WIDTH = 6, 64
# of a word's embedding before training: what it means, its language, itself (shares of the variance); and
# their size, which training moves but does not drown
MEANING, LANGUAGE, ITSELF, SPREAD = 0.6, 0.2, 0.2, 0.2
Fact = tuple[int, int]
Told = Mapping[str, Sequence[Fact]]


@dataclass(frozen=True)
class World:
    """The languages, rows of what each is told, rows of every fact in every language, sentence pairs, and
    what is asked in the end.
    """

    codec: ChatCodec
    rows: Data
    everything: Data
    pairs: Data
    asked: Mapping[str, list[tuple[str, str]]]


def word(language: str, kind: str, number: int) -> str:
    """A word of a language."""
    return f"{language}{kind}{number}"


def codec_in(folder: Path) -> ChatCodec:
    """A tokenizer with a token for every word of every language."""
    words = [word(name, kind, i) for name in LANGUAGES for kind, count in KINDS.items() for i in range(count)]
    listed = [*SPECIALS, "<|unknown|>", *words]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(listed)}, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIALS))
    save_tokenizer(tokenizer, folder)
    return ChatCodec.load(folder)


def decoder(codec: ChatCodec, seed: int) -> Any:
    """A decoder whose words of one meaning, and words of one language, begin a little alike.

    Large models owe that to what they were pre-trained on, which is out of reach here; from unrelated
    embeddings none of the ways learns to answer a weak language from what it was told in English.
    """
    model: Any = toys.decoder(codec, LAYERS, WIDTH, seed)
    g = torch.Generator().manual_seed(seed)
    table = model.get_input_embeddings().weight
    of_language = torch.randn(len(LANGUAGES), WIDTH, generator=g)
    with torch.no_grad():
        table.copy_(SPREAD * torch.randn(table.shape, generator=g))
        for kind, count in KINDS.items():
            meant = torch.randn(count, WIDTH, generator=g)
            for name, offset in zip(LANGUAGES, of_language, strict=True):
                own = torch.randn(count, WIDTH, generator=g)
                tokens = [codec.encode_text(word(name, kind, i))[0] for i in range(count)]
                parts = math.sqrt(MEANING) * meant + math.sqrt(LANGUAGE) * offset + math.sqrt(ITSELF) * own
                table[tokens] = SPREAD * parts
    return model


class Facts:
    """Who has which object in which relation, and which of it each language is told."""

    def __init__(self, seed: int) -> None:
        self.g = torch.Generator().manual_seed(seed)
        self.truth = torch.randint(0, OBJECTS, (ENTITIES, RELATIONS), generator=self.g)
        self.all = [(e, r) for e in range(ENTITIES) for r in range(RELATIONS)]
        self.told = {name: self._some(count) for name, (_, count) in LANGUAGES.items()}

    def _some(self, count: int) -> list[Fact]:
        """So many relations of every entity, drawn until every object is among them: a language can be asked
        for no word that it never met.
        """
        while True:
            drawn = [torch.randperm(RELATIONS, generator=self.g)[:count].tolist() for _ in range(ENTITIES)]
            facts = [(e, r) for e, some in enumerate(drawn) for r in sorted(some)]
            if len({int(self.truth[fact]) for fact in facts}) == len(set(self.truth.flatten().tolist())):
                return facts

    def _draw(self, facts: Sequence[Fact]) -> Fact:
        return facts[int(torch.randint(0, len(facts), (1,), generator=self.g))]

    def row(self, name: str, fact: Fact) -> Row:
        """A fact in a language."""
        e, r = fact
        return {
            "prompt": question(name, fact),
            "answer": word(name, "o", int(self.truth[e, r])),
            "language": name,
        }

    def rows(self, count: int, told: Told) -> Iterator[Row]:
        """Rows of what each language is told, by its share."""
        for name, (share, _) in LANGUAGES.items():
            for _ in range(round(share * count)):
                yield self.row(name, self._draw(told[name]))

    def pairs(self, count: int) -> Iterator[Row]:
        """Questions that a weak language is told the answers of, beside their English: they hold no answer,
        and none of them is asked in the end.
        """
        for name in LOW:
            for _ in range(count):
                fact = self._draw(self.told[name])
                yield {"language": name, "text": question(name, fact), "pivot": question(DOMINANT, fact)}

    def asked(self, name: str) -> list[tuple[str, str]]:
        """What a weak language is not told, and all in English."""
        hidden = self.all if name == DOMINANT else [f for f in self.all if f not in set(self.told[name])]
        return [(row["prompt"], row["answer"]) for row in (self.row(name, f) for f in hidden)]


def question(name: str, fact: Fact) -> str:
    """A question in a language."""
    return f"{word(name, 'e', fact[0])} {word(name, 'r', fact[1])}"


def draw_world(folder: Path, seed: int, count: int) -> World:
    """Draw a world with `count` rows."""
    facts = Facts(seed)
    rows, pairs = list(facts.rows(count, facts.told)), list(facts.pairs(count // 10))
    everything = list(facts.rows(count, dict.fromkeys(LANGUAGES, facts.all)))
    return World(
        codec_in(folder),
        made("rows", rows, "own", "drawn"),
        made("rows", everything, "own", "drawn"),
        made("pairs", pairs, "own", "drawn"),
        {name: facts.asked(name) for name in LANGUAGES},
    )
