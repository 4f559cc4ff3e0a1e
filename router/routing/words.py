"""Hashed TF-IDF features of texts: words and pairs of words, or pieces of 2 to 5 characters.

Buckets are hashes, so a fitted model holds numbers only and no text of anybody's prompts.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BUCKETS = 1 << 18
MOST_COLUMNS = 30_000
_LONGEST = 20_000  # characters of a text that are read
_WORD = re.compile(r"\w+")
_PRIMES = (1_000_003, 998_244_353)


@lru_cache(maxsize=200_000)
def _hashed(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace"))


def words_of(text: str) -> NDArray[np.int64]:
    """Buckets of a text's words and pairs of neighbouring words."""
    one = np.array([_hashed(word) for word in _WORD.findall(text[:_LONGEST].lower())], dtype=np.int64)
    two = (one[:-1] * _PRIMES[0] + one[1:]) % _PRIMES[1] if one.size > 1 else one[:0]
    return np.concatenate([one, two]) % BUCKETS


def characters_of(text: str) -> NDArray[np.int64]:
    """Buckets of a text's pieces of 2 to 5 characters; for scripts without spaces, and for typing errors."""
    plain = " ".join(text[:_LONGEST].lower().split())
    codes = np.array([ord(c) for c in f" {plain} "], dtype=np.int64)
    rolled, found = codes, []
    for length in range(2, 6):
        if codes.size < length:
            break
        rolled = (rolled[:-1] * _PRIMES[0] + codes[length - 1 :]) % _PRIMES[1]
        found.append(rolled)
    return np.concatenate(found) % BUCKETS if found else codes[:0]


KINDS = {"words": words_of, "characters": characters_of}


@lru_cache(maxsize=32_768)
def _counted(kind: str, text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A text's different buckets, and how often each occurs; folds and test rows ask for the same texts
    again.
    """
    buckets, counts = np.unique(KINDS[kind](text), return_counts=True)
    return buckets.astype(np.int32), counts.astype(np.int32)


class Sparse(NamedTuple):
    """Rows of a sparse matrix: column ids and values of row i are at offsets[i] to offsets[i+1]."""

    ids: Tensor
    values: Tensor
    offsets: Tensor
    width: int

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    def times(self, dense: Tensor) -> Tensor:
        """The product with dense [width,T]: [N,T]."""
        if not self.ids.numel():
            return torch.zeros(len(self), dense.shape[1])
        return torch.nn.functional.embedding_bag(
            self.ids, dense, self.offsets[:-1], mode="sum", per_sample_weights=self.values
        )

    def take(self, rows: Sequence[int]) -> Sparse:
        """Some rows, in this order."""
        inside = [slice(int(self.offsets[row]), int(self.offsets[row + 1])) for row in rows]
        sizes = torch.tensor([0, *(one.stop - one.start for one in inside)])
        ids, values = (torch.cat([whole[one] for one in inside]) for whole in (self.ids, self.values))
        return Sparse(ids, values, sizes.cumsum(0), self.width)

    def columns(self, rows: Sequence[int]) -> Tensor:
        """Some rows as columns of a dense matrix [width,n]."""
        found = torch.zeros(self.width, len(rows))
        for place, row in enumerate(rows):
            inside = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
            found[self.ids[inside], place] = self.values[inside]
        return found


class Vocabulary(NamedTuple):
    """Which buckets are columns, and each column's inverse document frequency. buckets [V] sorted, idf
    [V].
    """

    kind: str
    buckets: Tensor
    idf: Tensor

    @classmethod
    def fit(cls, kind: str, texts: Sequence[str], most: int = MOST_COLUMNS) -> Vocabulary:
        """Keep the `most` buckets that occur in the most texts, of those in at least 2."""
        frequency = np.zeros(BUCKETS, dtype=np.int64)
        for text in texts:
            frequency[_counted(kind, text)[0]] += 1
        order = np.argsort(-frequency, kind="stable")[:most]
        kept = np.sort(order[frequency[order] >= 2])
        idf = np.log((1 + len(texts)) / (1 + frequency[kept])) + 1
        return cls(kind, torch.from_numpy(kept), torch.from_numpy(idf.astype(np.float32)))

    def rows(self, texts: Sequence[str]) -> Sparse:
        """TF-IDF rows of unit length: (1 + log count) times idf."""
        parts = list(_rows(self.kind, texts, self.buckets.numpy(), self.idf.numpy()))
        sizes = np.cumsum([0, *(ids.size for ids, _ in parts)])
        ids = np.concatenate([ids for ids, _ in parts]) if parts else np.zeros(0, dtype=np.int64)
        values = np.concatenate([v for _, v in parts]) if parts else np.zeros(0, dtype=np.float32)
        width = self.buckets.numel()
        return Sparse(torch.from_numpy(ids), torch.from_numpy(values), torch.from_numpy(sizes), width)


def _rows(
    kind: str, texts: Sequence[str], columns: NDArray[np.int64], idf: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for text in texts:
        buckets, counts = _counted(kind, text)
        # columns are sorted, so a text looks up its own buckets: a table of all would cost a prompt more
        ids = np.searchsorted(columns, buckets)
        known = ids < columns.size
        known[known] = columns[ids[known]] == buckets[known]
        ids = ids[known]
        values = ((1 + np.log(counts[known])) * idf[ids]).astype(np.float32)
        yield ids, values / max(float(np.linalg.norm(values)), 1e-12)
