"""Rows that stand twice in a data set, or in a test set too: exact, and nearly so.

Two texts are near duplicates when the Jaccard similarity of their sets of 8-character shingles reaches a
threshold. Candidates come from a prefix filter (Chaudhuri, Ganti and Kaushik, 2006): of two such sets,
the rarest ``len - ceil(t * len) + 1`` shingles have one in common; so the search is exact. One changed digit
in a short prompt breaks most of its shingles, so "12 + 30" and "12 + 31" are different rows.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

SHINGLE = 8
NEAR = 0.8


class Leak(NamedTuple):
    """Row ``row`` of one list is (nearly) row ``other`` of another; ``similarity`` is 1 for the same text."""

    row: int
    other: int
    similarity: float


def normal(text: str) -> str:
    """Return a text without what does not make it another one: case, spacing, punctuation at its ends."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", folded).strip(" .,!?;:'\"")


def shingles(text: str) -> frozenset[str]:
    """Return the 8-character pieces of a normalised text; none for a shorter one."""
    plain = normal(text)
    return frozenset(plain[i : i + SHINGLE] for i in range(len(plain) - SHINGLE + 1))


def duplicates(texts: Sequence[str]) -> list[Leak]:
    """Return every row that repeats an earlier one exactly, after normalising."""
    first: dict[str, int] = {}
    return [
        Leak(i, at, 1.0) for i, text in enumerate(texts) if (at := first.setdefault(normal(text), i)) != i
    ]


def leaks(rows: Sequence[str], tests: Sequence[str], near: float = NEAR) -> list[Leak]:
    """Return the rows that stand in ``tests`` too, each with its likest test row; ``near`` 1 asks for equals.

    Raises:
        ValueError: ``near`` is not in (0, 1].
    """
    if not 0 < near <= 1:
        raise ValueError(f"near {near}: a similarity is above 0 and at most 1")
    exact = {normal(text): i for i, text in enumerate(tests)}
    found = {i: Leak(i, exact[key], 1.0) for i, key in enumerate(map(normal, rows)) if key in exact}
    if near < 1:
        for leak in _near(rows, tests, near):
            best = found.get(leak.row)
            if best is None or leak.similarity > best.similarity:
                found[leak.row] = leak
    return [found[i] for i in sorted(found)]


def _near(rows: Sequence[str], tests: Sequence[str], near: float) -> Iterator[Leak]:
    """Yield all pairs with similarity ``near`` or more."""
    ours, theirs = [shingles(r) for r in rows], [shingles(t) for t in tests]
    common = Counter(piece for found in (*ours, *theirs) for piece in found)
    holders: dict[str, list[int]] = defaultdict(list)
    for j, found in enumerate(theirs):
        for piece in _prefix(found, common, near):
            holders[piece].append(j)
    for i, found in enumerate(ours):
        candidates = {j for piece in _prefix(found, common, near) for j in holders.get(piece, ())}
        for j in sorted(candidates):
            similarity = len(found & theirs[j]) / len(found | theirs[j])
            if similarity >= near:
                yield Leak(i, j, similarity)


def _prefix(found: Iterable[str], common: Counter[str], near: float) -> list[str]:
    """The rarest shingles of a set: enough that two similar sets must share one of them."""
    ordered = sorted(found, key=lambda piece: (common[piece], piece))
    return ordered[: len(ordered) - math.ceil(near * len(ordered)) + 1]
