"""How many prompts a model or specialist answers exactly; speciality, versatility and what was forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from transformers import PreTrainedModel

from ..lean import LeanDecoder
from ..tokenizing import ChatCodec
from .answering import Answered, Switch, answer_all
from .data import Data

LONGEST = 64


def answers_of(
    model: PreTrainedModel | LeanDecoder,
    codec: ChatCodec,
    prompts: Sequence[str],
    longest: int = LONGEST,
    active: Switch = nullcontext,
) -> list[Answered]:
    """Greedy answers to prompts.

    Raises:
        ValueError: the chat template calls for an answer with more than one token.
    """
    if len(codec.invocation) != 1:
        raise ValueError(
            f"the invocation has {len(codec.invocation)} tokens: only families with one are supported here"
        )
    encoded = [codec.encode_prompt(p) for p in prompts]
    return answer_all(model, encoded, codec.invocation[0], codec.end, longest, active)


def exact(
    model: PreTrainedModel | LeanDecoder,
    codec: ChatCodec,
    data: Data,
    longest: int = LONGEST,
    active: Switch = nullcontext,
) -> list[float]:
    """Whether each row's answer is given exactly, as 0 or 1."""
    found = answers_of(model, codec, [r["prompt"] for r in data.rows], longest, active)
    texts = [codec.decode(a.tokens).strip() if a.ended else None for a in found]
    return [float(t == r["answer"].strip()) for t, r in zip(texts, data.rows, strict=True)]


def mean(values: Sequence[float]) -> float:
    """The mean, 0 for nothing."""
    return sum(values) / len(values) if values else 0.0


def balance(before: Mapping[str, float], after: Mapping[str, float], special: str) -> dict[str, Any]:
    """Return speciality, versatility and forgetting from accuracies by data set; ``special`` is the new one.

    Forgetting is the mean fall of accuracy on the other sets.
    """
    others = [n for n in after if n != special]
    return {
        "speciality": after[special],
        "versatility": mean([after[n] for n in others]),
        "forgetting": mean([before[n] - after[n] for n in others]),
        "speciality_before": before[special],
        "versatility_before": mean([before[n] for n in others]),
    }
