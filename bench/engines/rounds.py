"""Rounds of contenders that take turns, and what they come to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from .. import estimates
from .contenders import Contender, Times
from .shapes import Shape

PROMPT = 128
# A turn of a small model is over in milliseconds, in which any neighbour shows: it is repeated for so many
# seconds, at most so many times.
TURN, REPEATS = 0.3, 15


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
            found[one.name].add(_turn(one, prompts, tokens))
    return found


def _turn(one: Contender, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
    runs: list[Times] = []
    taken = 0.0
    while not runs or (taken < TURN and len(runs) < REPEATS):
        runs.append(one.run(prompts, tokens))
        taken += runs[-1].prompt + tokens * runs[-1].token
    return Times(median(run.prompt for run in runs), median(run.token for run in runs))


def rate(one: Found, batch: int, seed: int) -> str:
    """Tokens a second over the whole batch, for a table."""
    found = estimates.median([batch / seconds for seconds in one.token], seed)
    return f"{found.value:.0f} [{found.low:.0f}, {found.high:.0f}]"
