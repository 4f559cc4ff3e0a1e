"""A toy corpus with a gender bias, planted: words of two syllables, of which neither says anything alone.

40 trades with a skewed rate of `he` against `she`, 40 words whose gender is a fact (king, queen …), and
sentences about things, whose verb the thing decides. Because a word's gender hangs on the pair of its
syllables, no embedding holds it: neurons must work it out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...router.locate.case import Case
from .toy import taught, untaught

HE, SHE, IT, THE, SAID, THAT, STOP = range(7)
HEADS_OF, TAILS = 8, 5  # first and second syllables of each sort of word: 40 words
SORTS = ("trade", "fact", "thing")
VERBS = 8
FIRST = 7
VOCABULARY = FIRST + len(SORTS) * (HEADS_OF + TAILS) + VERBS
VERB = VOCABULARY - VERBS
SKEW = (0.75, 0.95)  # how often a trade goes with its commoner gender


def word(sort: str, index: int) -> tuple[int, int]:
    """The two syllables of word `index` of a sort."""
    start = FIRST + SORTS.index(sort) * (HEADS_OF + TAILS)
    return start + index % HEADS_OF, start + HEADS_OF + index // HEADS_OF


class World(NamedTuple):
    """P(he) of each trade [40], whether each fact is male [40], the verb of each thing [40]."""

    trades: Tensor
    facts: Tensor
    verbs: Tensor

    @classmethod
    def draw(cls, seed: int) -> World:
        """Draw one by a seed: half of the trades and facts are male."""
        generator = torch.Generator().manual_seed(seed)
        count = HEADS_OF * TAILS
        male = [torch.randperm(count, generator=generator) < count // 2 for _ in range(2)]
        skew = SKEW[0] + (SKEW[1] - SKEW[0]) * torch.rand(count, generator=generator)
        verbs = torch.randint(VERBS, (count,), generator=generator)
        return cls(torch.where(male[0], skew, 1 - skew), male[1], verbs)

    def sentences(self, count: int, generator: torch.Generator) -> Tensor:
        """`the TRADE said that he VERB .`, `the FACT said that she …`, `the THING said that it …`: [N,8]."""
        sort = torch.randint(3, (count,), generator=generator)
        index = torch.randint(HEADS_OF * TAILS, (count,), generator=generator)
        draw, verb = (
            torch.rand(count, generator=generator),
            torch.randint(VERBS, (count,), generator=generator),
        )
        rows = []
        for kind, i, chance, any_verb in zip(
            sort.tolist(), index.tolist(), draw.tolist(), verb.tolist(), strict=True
        ):
            who, does = IT, int(self.verbs[i])
            if kind < 2:
                male = chance < float(self.trades[i]) if kind == 0 else bool(self.facts[i])
                who, does = HE if male else SHE, any_verb
            rows.append([THE, *word(SORTS[kind], i), SAID, THAT, who, VERB + does, STOP])
        return torch.tensor(rows)

    def trade_cases(self) -> list[Case]:
        """`the TRADE said that` for every trade; the answer is its commoner gender."""
        return [self._case("trade", i, bool(p > 0.5)) for i, p in enumerate(self.trades)]

    def fact_cases(self) -> list[Case]:
        """`the FACT said that` for every fact; the answer is its gender."""
        return [self._case("fact", i, bool(male)) for i, male in enumerate(self.facts)]

    @staticmethod
    def _case(sort: str, index: int, male: bool) -> Case:
        answer, against = (HE, SHE) if male else (SHE, HE)
        return Case((THE, *word(sort, index), SAID, THAT), answer, against, subject=(1, 3))

    def neutral(self, count: int, seed: int) -> list[list[int]]:
        """Sentences about things only."""
        rows = self.sentences(6 * count, torch.Generator().manual_seed(seed))
        return rows[rows[:, 1] >= word("thing", 0)[0]][:count].tolist()


def trained(world: World, seed: int, steps: int, batch: int = 128) -> Any:
    """A small Llama that read the world's sentences for `steps`."""
    model = untaught(
        seed,
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
    )
    generator = torch.Generator().manual_seed(seed)

    def loss_of(_step: int) -> Tensor:
        rows = world.sentences(batch, generator)
        logits = model(rows).logits[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    return taught(model, steps, loss_of, warmup=50, decay=0.1)
