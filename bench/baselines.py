"""Baselines without model internals: what a router or a specialist must beat to be worth anything."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def majority(labels: Sequence[str]) -> str:
    """The most frequent label (of equals, the first in the alphabet)."""
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def tfidf_pipeline(strength: float) -> Any:
    """Words and pairs of words, TF-IDF, multinomial logistic regression; `strength` is scikit-learn's C."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=40_000)
    return make_pipeline(words, LogisticRegression(C=strength, max_iter=400, tol=1e-3))


@dataclass(frozen=True)
class Tfidf:
    """A fitted TF-IDF classifier, and the C that the calibration rows chose."""

    model: Any
    strength: float

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[str],
        held_texts: Sequence[str],
        held_labels: Sequence[str],
        strengths: Sequence[float] = (1.0, 10.0),
    ) -> Tfidf:
        """Fit at each strength, and keep the one that labels the held rows best."""
        fitted = [cls(tfidf_pipeline(c).fit(list(texts), list(labels)), c) for c in strengths]
        if not held_texts:
            return fitted[0]
        wanted = np.array(held_labels)
        return max(fitted, key=lambda one: float((np.array(one.predict(held_texts)) == wanted).mean()))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return one label a text."""
        return [str(label) for label in self.model.predict(list(texts))]


def by_length(
    lengths: Sequence[int], labels: Sequence[str], asked: Sequence[int], bins: int = 12
) -> list[str]:
    """Choose by prompt length alone: the most frequent label of the length's quantile bin."""
    edges = sorted(set(np.quantile(lengths, np.linspace(0, 1, bins + 1)[1:-1]).tolist()))
    place = np.searchsorted(edges, lengths, side="right")
    overall = majority(labels)
    found = {}
    for index in range(len(edges) + 1):
        inside = [label for label, at in zip(labels, place, strict=True) if at == index]
        found[index] = majority(inside) if inside else overall
    return [found[int(at)] for at in np.searchsorted(edges, asked, side="right")]


def nearest(
    known: NDArray[np.float32], labels: Sequence[str], asked: NDArray[np.float32], k: int = 10
) -> list[str]:
    """Choose by the k nearest known states (cosine, standardised columns): the most frequent label."""
    centre, spread = known.mean(0), known.std(0) + 1e-6
    a, b = ((x - centre) / spread for x in (asked, known))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    closest = np.argsort(-(a @ b.T), axis=1, kind="stable")[:, :k]
    return [majority([labels[j] for j in row]) for row in closest]


def shuffled(labels: Sequence[str], seed: int) -> list[str]:
    """The same labels, dealt to other rows."""
    dealt = list(labels)
    random.Random(f"shuffled/{seed}").shuffle(dealt)
    return dealt


def uniform(names: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` draws among `names`."""
    rng = random.Random(f"uniform/{seed}")
    return [rng.choice(list(names)) for _ in range(count)]
