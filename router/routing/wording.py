"""Heads that read the text alone: TF-IDF of words or characters, the surface of a prompt, its length."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from .heads import Standard, penalties
from .nearness import landmark_rows, whitener
from .ridge import fit_ridge, gathered
from .seen import Seen
from .words import Vocabulary

_WORD = re.compile(r"\w+")
_MARKS = ("?", "\n", "\\", "$", "(", "_", ",", "'", '"', "`", "{", "=", "%", ":", ".", "/")
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Wording:
    """Ridge regression on TF-IDF rows; exact up to 1,500 prompts, through landmarks above.

    buckets, idf [V]; weight [V,1+M]; bias [1+M]. `unit`: "words" or "characters".
    """

    kind: ClassVar[str] = "wording"
    buckets: Tensor
    idf: Tensor
    weight: Tensor
    bias: Tensor
    unit: str = "words"

    def predict(self, seen: Seen) -> Tensor:
        return Vocabulary(self.unit, self.buckets, self.idf).rows(seen.texts).times(self.weight) + self.bias

    @classmethod
    def fit(cls, seen: Seen, values: Tensor, unit: str = "words") -> Wording:
        """Kernel ridge with the linear kernel, folded back to one weight a column."""
        vocabulary = Vocabulary.fit(unit, seen.texts)
        if not vocabulary.buckets.numel():  # no two prompts share a word
            width = values.shape[1]
            return cls(vocabulary.buckets, vocabulary.idf, torch.zeros(0, width), torch.zeros(width), unit)
        rows = vocabulary.rows(seen.texts)
        chosen = landmark_rows(len(seen)).tolist()
        landmarks = rows.columns(chosen)
        half = whitener(rows.take(chosen).times(landmarks))
        pieces = (
            rows.take(range(start, min(start + _CHUNK, len(rows)))).times(landmarks) @ half
            for start in range(0, len(rows), _CHUNK)
        )
        found = fit_ridge(gathered(pieces, len(rows)), values, penalties(values))
        return cls(vocabulary.buckets, vocabulary.idf, landmarks @ (half @ found.weight), found.bias, unit)


def surface_of(texts: Sequence[str]) -> Tensor:
    """Plain facts of each text [N,S]: sizes, shares of kinds of characters, marks. No language is assumed."""
    return torch.tensor([_surface(text) for text in texts], dtype=torch.float32)


@lru_cache(maxsize=32_768)
def _surface(text: str) -> tuple[float, ...]:
    size = max(1, len(text))
    words = _WORD.findall(text)
    lines = text.count("\n") + 1
    shares = [
        sum(map(str.isdigit, text)) / size,
        sum(map(str.isupper, text)) / size,
        sum(map(str.isspace, text)) / size,
        sum(not c.isascii() for c in text) / size,
    ]
    numbers = sum(word.isdigit() for word in words)
    lengths = [len(word) for word in words] or [0]
    return (
        *length_of(text),
        *shares,
        math.log1p(len(words)),
        math.log1p(lines),
        math.log1p(numbers),
        sum(lengths) / len(lengths),
        max(lengths) ** 0.5,
        len(set(words)) / max(1, len(words)),
        math.log1p(size / lines),
        *(math.log1p(text.count(mark)) for mark in _MARKS),
    )


def length_of(text: str) -> list[float]:
    """A prompt's length as a smooth curve can use it: log, and two bends."""
    x = math.log(max(1, len(text)))
    return [x, max(0.0, x - 5.0), max(0.0, x - 6.5)]


@dataclass(frozen=True, eq=False)
class Surface:
    """Ridge regression on the surface of a prompt, with a radial kernel; `only` = "length" reads nothing
    else.

    mean, scale [S]; landmarks [m,S]; weight [S+m,1+M]; bias [1+M].
    """

    kind: ClassVar[str] = "surface"
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    only: str = ""

    def predict(self, seen: Seen) -> Tensor:
        return Standard(self.mean, self.scale)(self._features(seen)) @ self.weight + self.bias

    def _features(self, seen: Seen) -> Tensor:
        return _features(seen, self.only)

    @classmethod
    def fit(cls, seen: Seen, values: Tensor, only: str = "") -> Surface:
        """Ridge regression; the features are few, so the penalty is small where they help."""
        x = _features(seen, only)
        standard = Standard.of(x)
        found = fit_ridge(standard(x), values, penalties(values))
        return cls(standard.mean, standard.scale, found.weight, found.bias, only)


def _features(seen: Seen, only: str) -> Tensor:
    if only == "length":
        return torch.tensor([length_of(text) for text in seen.texts], dtype=torch.float32)
    x = surface_of(seen.texts)
    return torch.cat([x, x[:, :1].square(), x[:, 3:8].square()], 1)
