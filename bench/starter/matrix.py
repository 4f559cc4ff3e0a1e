"""Every specialist's real answer to every prompt of the mixture: computed once, every router scored on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...specialists.starter.skills.example import Example
from ..estimates import Array
from .stage import Routed, Stage


@dataclass(frozen=True, eq=False)
class Matrix:
    """`right[name]` [N] says whether specialist `name` answered prompt i correctly; `confidence[name]` [N] is
    its answer's mean log-probability (nats a token), for those that run a model.
    """

    examples: list[Example]
    x: Tensor
    routed: list[Routed]
    right: Mapping[str, Array]
    confidence: Mapping[str, Array]

    def part(self, start: int, stop: int) -> Matrix:
        """The prompts from `start` up to `stop`."""
        at = slice(start, stop)
        right = {name: values[at] for name, values in self.right.items()}
        confidence = {name: values[at] for name, values in self.confidence.items()}
        return Matrix(self.examples[at], self.x[at], self.routed[at], right, confidence)

    @property
    def names(self) -> list[str]:
        """All specialists."""
        return list(self.right)

    @property
    def oracle(self) -> Array:
        """Whether anybody was right."""
        anybody: Array = np.max(np.stack(list(self.right.values())), axis=0)
        return anybody

    def scored(self, choice: Sequence[str | None]) -> Array:
        """Whether the chosen specialist was right; choosing nobody is wrong."""
        rights = [0.0 if name is None else self.right[name][i] for i, name in enumerate(choice)]
        return np.array(rights)


def fill(stage: Stage, examples: list[Example]) -> Matrix:
    """Let everybody answer everything.

    A specialist answers its own prompts at its full length, others' in at most `foreign_tokens` tokens.
    Greetings and questions about the family can be answered from the cards only: that desk is right on them
    and on nothing else.
    """
    right: dict[str, Array] = {}
    confidence: dict[str, Array] = {}
    for name in stage.specialists:
        right[name], confidence[name] = _column(stage, name, examples)
        stage.say(f"matrix: {name} is right on {int(right[name].sum())} of {len(examples)} prompts")
    for name in stage.desks:
        right[name] = np.array([float(e.skill == name) for e in examples])
    x = stage.vectors(examples)
    return Matrix(examples, x, stage.routed(x), right, confidence)


def _column(stage: Stage, name: str, examples: list[Example]) -> tuple[Array, Array]:
    right, confidence = np.zeros(len(examples)), np.full(len(examples), -np.inf)
    own = [i for i, e in enumerate(examples) if e.skill == name]
    others = [i for i, e in enumerate(examples) if e.skill != name]
    short = min(stage.longest(name), stage.sizes.foreign_tokens)
    for indexes, longest in ((own, stage.longest(name)), (others, short)):
        found = stage.answers(name, [examples[i] for i in indexes], longest)
        for i, outcome in zip(indexes, found, strict=True):
            right[i] = float(outcome.correct and examples[i].skill not in stage.desks)
            confidence[i] = outcome.mean_logprob
    return right, confidence
