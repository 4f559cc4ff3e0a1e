"""Labels for features, from the contexts that activate them most. A label is a hint, not a truth.

A word is distinctive for a feature when it stands in many of its top contexts and in few contexts at large;
the words with the highest smoothed log-odds name the feature.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from ...store.errors import ArtifactError, UsageError
from ...store.records import Frozen
from ..checks import matrix
from ..files import replace
from .sae import SAE

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")
_UNSURE = "mixed"


class Label(Frozen):
    """What seems to activate a feature: distinctive words, and some top contexts."""

    feature: int
    text: str
    examples: tuple[str, ...] = ()


def words(context: str) -> set[str]:
    """Return the distinct lower-case words and marks of a context."""
    return {word.lower() for word in _WORD.findall(context)}


def label_features(
    sae: SAE,
    states: Tensor,
    contexts: Sequence[str],
    *,
    top: int = 24,
    examples: int = 5,
    features: Iterable[int] | None = None,
) -> list[Label]:
    """Label every feature that is active anywhere in states [N,D], each with its context's text.

    Of equal contexts only the strongest counts, so one repeated prompt cannot name a feature. `features`
    restricts the work to some. A feature without a distinctive word is called `mixed`. Raises UsageError when
    there is not one context a state.
    """
    rows = matrix("states", states, sae.d_in)
    if len(contexts) != rows.shape[0]:
        raise UsageError(f"{len(contexts)} contexts for {rows.shape[0]} states; give one context a state")
    acts = torch.cat([sae.encode(part) for part in torch.split(rows, 4096)]).T.contiguous()  # [S,N]
    spread = Counter(word for context in dict.fromkeys(contexts) for word in words(context))
    total = len(set(contexts))
    wanted = range(sae.d_sae) if features is None else features
    found = ((feature, _top_contexts(acts[feature], contexts, top)) for feature in wanted)
    return [
        Label(feature=feature, text=_name(best, spread, total), examples=tuple(best[:examples]))
        for feature, best in found
        if best
    ]


def _top_contexts(act: Tensor, contexts: Sequence[str], top: int) -> list[str]:
    """The distinct contexts with the highest activation, strongest first."""
    count = min(int((act > 0).sum()), 8 * top)
    order = act.topk(count).indices.tolist() if count else []
    return list(dict.fromkeys(contexts[i] for i in order))[:top]


def _name(best: Sequence[str], spread: Mapping[str, int], total: int) -> str:
    inside = Counter(word for context in best for word in words(context))
    scored = {word: _log_odds(n, len(best), spread[word], total) for word, n in inside.items()}
    distinctive = [
        word
        for word in sorted(scored, key=lambda word: (-scored[word], word))
        if inside[word] >= max(2, len(best) / 4) and scored[word] > 1.0
    ]
    return ", ".join(distinctive[:3]) or (
        _UNSURE if len(best) > 1 else ", ".join(sorted(words(best[0]))[:3]) or _UNSURE
    )


def _log_odds(inside: int, of: int, anywhere: int, total: int) -> float:
    """Smoothed log-odds of a word among the top contexts against all of them, times its share of the top."""
    here = math.log((inside + 0.5) / (of - inside + 0.5))
    there = math.log((anywhere + 0.5) / (total - anywhere + 0.5))
    return (here - there) * inside / of


def save_labels(path: Path | str, labels: Iterable[Label]) -> None:
    """Write one JSON object a line."""
    replace(Path(path), "".join(json.dumps(one.model_dump(), ensure_ascii=False) + "\n" for one in labels))


def load_labels(path: Path | str) -> dict[int, Label]:
    """Read labels by feature. Raises ArtifactError naming the file and line that is not a label."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); restore the file") from error
    found = {}
    for number, line in enumerate(lines, 1):
        try:
            label = Label.model_validate_json(line)
        except ValidationError as error:
            raise ArtifactError(
                f"{path}:{number} is no label ({error.errors()[0]['msg']}); restore the file"
            ) from error
        found[label.feature] = label
    return found
