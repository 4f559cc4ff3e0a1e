"""Does a label tell where its feature fires? A judge reads the label alone and says which contexts fire.

The judge is never the labeller: a labeller that judges itself only shows that it is consistent. Contexts
follow SAEBench's detection task: 2 of the top, 2 drawn by importance, 10 at random; the score is balanced
accuracy, so that 0.5 is chance. Contexts that the label was made from are left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ...store.errors import UsageError
from .label import Label

LABELLER = "log-odds words"  # who makes the labels in `label`


class Judge(Protocol):
    """Who says, from a label, whether a feature fires in a context."""

    name: str

    def scores(self, label: str, contexts: Sequence[str]) -> Sequence[float]:
        """Return how likely each context is to fire; only their order counts."""


class Likeness:
    """Judges by likeness of letters: the greatest cosine of character trigrams, rarer ones counting more,
    between a word of the label and a word of the context.

    It knows nothing of how labels were made, and sees parts of words that labels do not list.
    """

    name = "trigram likeness"

    def __init__(self, corpus: Sequence[str]) -> None:
        spread = Counter(gram for text in corpus for gram in set(_grams(text)))
        self._weight = {gram: math.log((1 + len(corpus)) / (1 + n)) + 1 for gram, n in spread.items()}

    def _vector(self, text: str) -> dict[str, float]:
        counts = Counter(_grams(text))
        raw = {gram: n * self._weight.get(gram, 1.0) for gram, n in counts.items()}
        size = math.sqrt(sum(value * value for value in raw.values())) or 1.0
        return {gram: value / size for gram, value in raw.items()}

    def scores(self, label: str, contexts: Sequence[str]) -> list[float]:
        """The likeness of the label to each context."""
        wanted = [self._vector(word) for word in label.replace(",", " ").split()]
        return [self._score(wanted, text.split()) for text in contexts]

    def _score(self, wanted: Sequence[Mapping[str, float]], words: Sequence[str]) -> float:
        read = [self._vector(word) for word in words]
        return max((_cosine(one, word) for one in wanted for word in read), default=0.0)


def _cosine(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Of unit vectors; rounded, so that what is the same ties."""
    return round(sum(a.get(gram, 0.0) * value for gram, value in b.items()), 9)


def _grams(text: str) -> list[str]:
    padded = f" {text.lower()} "
    return [padded[i : i + 3] for i in range(len(padded) - 2)]


def detection(
    label: Label,
    acts: Tensor,
    contexts: Sequence[str],
    judge: Judge,
    *,
    seed: int = 0,
    made_by: str = LABELLER,
) -> float | None:
    """Return the balanced accuracy of a judge on a feature with activations [N] in N contexts; None where
    there are too few contexts that fire, or that do not.

    Raises UsageError when the judge is the labeller.
    """
    if judge.name == made_by:
        raise UsageError(f"the labels were made by {made_by!r}; let somebody else judge them")
    chosen = _chosen(label, acts, contexts, seed)
    if chosen is None:
        return None
    fires = [bool(acts[at] > 0) for at in chosen]
    scores = list(judge.scores(label.text, [contexts[at] for at in chosen]))
    # the judge knows how many fire, as a reader of the task does; contexts that tie share what is left
    edge = sorted(scores, reverse=True)[sum(fires) - 1]
    left = sum(fires) - sum(s > edge for s in scores)
    share = left / sum(s == edge for s in scores)
    said = [1.0 if s > edge else 0.0 if s < edge else share for s in scores]
    hits = sum(s for s, fire in zip(said, fires, strict=True) if fire) / sum(fires)
    silence = sum(1 - s for s, fire in zip(said, fires, strict=True) if not fire) / (len(fires) - sum(fires))
    return (hits + silence) / 2


def _chosen(label: Label, acts: Tensor, contexts: Sequence[str], seed: int) -> list[int] | None:
    known, values = set(label.examples), acts.tolist()
    free = [at for at, text in enumerate(contexts) if text not in known]
    on = [at for at in free if values[at] > 0]
    off = [at for at in free if values[at] <= 0]
    if len(on) < 4 or len(off) < 4:
        return None
    generator = torch.Generator().manual_seed((seed << 20) + label.feature)
    top = sorted(on, key=lambda at: -values[at])[:2]
    rest = [at for at in on if at not in top]
    drawn = torch.multinomial(acts[rest].float(), 2, generator=generator).tolist()
    silent = torch.randperm(len(off), generator=generator)[:10].tolist()
    return [*top, *(rest[i] for i in drawn), *(off[i] for i in silent)]


def detection_scores(
    labels: Mapping[int, Label], acts: Tensor, contexts: Sequence[str], judge: Judge, seed: int = 0
) -> tuple[dict[int, float], float]:
    """Return each label's score (acts [N,S]), and the mean of a control: every label read for another
    feature.
    """
    found: dict[int, float] = {}
    control: list[float] = []
    features = sorted(labels)
    for place, feature in enumerate(features):
        score = detection(labels[feature], acts[:, feature], contexts, judge, seed=seed)
        other = labels[features[(place + max(1, len(features) // 2)) % len(features)]]
        wrong = detection(
            Label(feature=feature, text=other.text, examples=labels[feature].examples),
            acts[:, feature],
            contexts,
            judge,
            seed=seed,
        )
        if score is not None and wrong is not None:
            found[feature] = score
            control.append(wrong)
    return found, sum(control) / len(control) if control else float("nan")
