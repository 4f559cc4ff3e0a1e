"""A toy in which heads must rest: bigrams, and trigger tokens after which the token before is repeated.

Guo et al., 'Active-Dormant Attention Heads' (2024): a head that fetches the token before is wanted after a
trigger and in the way elsewhere, so elsewhere it looks at the start token. A wide stream has room for what is
fetched in vain, and then no head needs to rest; so the stream here has a quarter as many axes as there are
tokens (ours).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...router.locate.case import Case
from .toy import taught, untaught

START, TRIGGERS, VOCABULARY, LENGTH = 0, 3, 128, 32  # the triggers are the tokens 1 to 3
LAYERS, HEADS, WIDTH, NEURONS = 3, 2, 32, 32
STEPS, BATCH = 800, 64
SPREAD, CALL = 0.1, 0.1  # of the Dirichlet that bigrams are drawn from; how often a trigger follows


class Bigrams:
    """A language drawn by `seed`: which token follows which, [V,V]."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        drawn = torch._standard_gamma(torch.full((VOCABULARY, VOCABULARY), SPREAD), generator=self.generator)
        drawn = drawn.clamp_min(1e-9)
        drawn[:, START] = 0
        drawn[:, 1 : 1 + TRIGGERS] = 0
        drawn = drawn / drawn.sum(1, keepdim=True) * (1 - CALL)
        drawn[:, 1 : 1 + TRIGGERS] = CALL / TRIGGERS
        self.follows = drawn

    def rows(self, count: int) -> Tensor:
        """Sequences [N,LENGTH] behind the start token."""
        x = torch.full((count, LENGTH), START)
        for at in range(1, LENGTH):
            x[:, at] = torch.multinomial(self.follows[x[:, at - 1]], 1, generator=self.generator)[:, 0]
            if at >= 3:
                x[:, at] = torch.where(called(x[:, at - 1]), x[:, at - 2], x[:, at])
        return x

    def cases(self, count: int) -> list[Case]:
        """Sequences as prompts (sinks are read without an answer)."""
        return [Case(tuple(row), -1) for row in self.rows(count).tolist()]


def called(tokens: Tensor) -> Tensor:
    """Which tokens are triggers."""
    return (tokens >= 1) & (tokens <= TRIGGERS)


def untrained(seed: int) -> Any:
    """The toy before training."""
    return untaught(
        seed,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=NEURONS,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=2 * LENGTH,
    )


def trained(seed: int, language: Bigrams, steps: int = STEPS) -> Any:
    """The toy after `steps` of reading."""
    model = untrained(seed)

    def loss_of(_step: int) -> Tensor:
        rows = language.rows(BATCH)
        logits = model(rows).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    return taught(model, steps, loss_of, warmup=30, decay=0.01, betas=(0.9, 0.99))


@torch.no_grad()
def copies(model: Any, language: Bigrams, count: int = 64) -> float:
    """Share of triggers after which the token before is the first choice."""
    rows = language.rows(count)
    said = model(rows).logits[:, 2:-1].argmax(-1)
    asked = called(rows[:, 2:-1])
    return float((said == rows[:, 1:-2])[asked].float().mean())
