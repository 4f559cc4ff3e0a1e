"""Rounds of contenders that take turns, and what they come to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import estimates
from .contenders import Contender, Times
from .shapes import Shape

PROMPT = 128


@dataclass
class Found:
    """The rounds of one contender at one batch size."""

    prompt: list[float] = field(default_factory=list)
    token: list[float] = field(default_factory=list)

    def add(self, times: Times) -> None:
        """Keep a round."""
        self.prompt.append(times.prompt)
        self.token.append(times.token)


def prompts_for(shape: Shape, batch: int, seed: int, length: int = PROMPT) -> list[list[int]]:
    """Random prompts, as many as the batch has rows."""
    draw = random.Random(seed)
    return [[draw.randrange(shape.config["vocab_size"]) for _ in range(length)] for _ in range(batch)]


def measure(
    contenders: Sequence[Contender], prompts: Sequence[Sequence[int]], tokens: int, rounds: int, seed: int
) -> dict[str, Found]:
    """Let contenders take turns at the same prompts, in another order each round, after one to warm up."""
    order, draw = list(contenders), random.Random(seed)
    found = {one.name: Found() for one in contenders}
    for one in order:  # warm up, and fault in all memory
        one.run(prompts, 1)
    for _ in range(rounds):
        draw.shuffle(order)
        for one in order:
            found[one.name].add(one.run(prompts, tokens))
    return found


def rate(one: Found, batch: int, seed: int) -> str:
    """Tokens a second over the whole batch, for a table."""
    found = estimates.median([batch / seconds for seconds in one.token], seed)
    return f"{found.value:.0f} [{found.low:.0f}, {found.high:.0f}]"
