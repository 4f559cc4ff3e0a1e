"""A toy that learnt two-hop facts, some never, and two ways to break it where the place is known.

`ENTITY RELATION` is answered with a bridge, `BRIDGE RELATION` and `ENTITY RELATION RELATION` with an answer.
Some first and some second facts are in no row it learnt from, so prompts that need one fail at that hop.
Others fail because what the last token's attention writes is taken away, or because the last layer speaks
against the answer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.edit import Edit
from ...router.locate.hops import HOPS, NONE
from ...router.locate.place import Place
from .toy import taught, untaught

ENTITIES, BRIDGES, ANSWERS, FIRST, SECOND = 48, 12, 12, 2, 3  # FIRST and SECOND: relations of either hop
ENTITY = FIRST + SECOND
BRIDGE, ANSWER = ENTITY + ENTITIES, ENTITY + ENTITIES + BRIDGES
VOCABULARY = ANSWER + ANSWERS
UNTAUGHT = (8, 4)  # facts of either hop
LAYERS, HEADS, WIDTH, NEURONS, STEPS = 3, 4, 64, 128, 400
AGAINST = 30.0  # how loud the last layer speaks against the answer, in lengths of its unembedding


class Facts:
    """A world drawn by `seed`: `first` [ENTITIES,FIRST] leads to a bridge, `second` [BRIDGES,SECOND] to an
    answer; `missing` holds, for either hop, the facts that no row teaches.
    """

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.first = torch.randint(BRIDGES, (ENTITIES, FIRST), generator=generator)
        self.second = torch.stack([torch.randperm(ANSWERS, generator=generator) for _ in range(SECOND)], 1)
        self.second = self.second[:BRIDGES]
        self.missing = [
            {divmod(at, table.shape[1]) for at in _drawn(table.numel(), count, generator)}
            for table, count in zip((self.first, self.second), UNTAUGHT, strict=True)
        ]

    def prompts(self) -> list[tuple[Case, str]]:
        """Every two-hop prompt that lacks one fact at most, and the stage that must fail (or `none`)."""
        found = []
        for entity, r, q in torch.cartesian_prod(*map(torch.arange, (ENTITIES, FIRST, SECOND))).tolist():
            bridge = int(self.first[entity, r])
            lacks = ((entity, r) in self.missing[0], (bridge, q) in self.missing[1])
            stage = {(False, False): NONE, (True, False): HOPS[0], (False, True): HOPS[2]}.get(lacks)
            if stage:
                ids = (ENTITY + entity, r, FIRST + q)
                answer = ANSWER + int(self.second[bridge, q])
                found.append((Case(ids, answer, subject=(0, 1), bridge=BRIDGE + bridge), stage))
        return found

    def lessons(self) -> tuple[Tensor, Tensor]:
        """Rows to learn from: [N,5] entity, two relations, bridge, answer; [M,3] bridge, relation, answer."""
        taught = [case for case, stage in self.prompts() if stage == NONE]
        long = torch.tensor([(*case.ids, case.bridge, case.answer) for case in taught])
        pairs = [(b, q) for b in range(BRIDGES) for q in range(SECOND) if (b, q) not in self.missing[1]]
        short = [(BRIDGE + b, FIRST + q, ANSWER + int(self.second[b, q])) for b, q in pairs]
        return long, torch.tensor(short)


def _drawn(among: int, count: int, generator: torch.Generator) -> list[int]:
    found: list[int] = torch.randperm(among, generator=generator)[:count].tolist()
    return found


def untrained(seed: int) -> Any:
    """The toy before training."""
    return untaught(
        seed,
        "Mistral",
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=NEURONS,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        sliding_window=2,
        max_position_embeddings=16,
        tie_word_embeddings=True,
    ).requires_grad_(False)


def trained(seed: int, facts: Facts, steps: int = STEPS) -> Any:
    """The toy after `steps` of all lessons; a two-hop row also teaches its bridge, as any text would."""
    model = untrained(seed).requires_grad_(True)
    long, short = facts.lessons()
    loss_of = torch.nn.functional.cross_entropy

    def lesson(_step: int) -> Tensor:
        two, one = model(long[:, :3]).logits, model(short[:, :2]).logits
        return (
            loss_of(two[:, 2], long[:, 4]) + loss_of(two[:, 1], long[:, 3]) + loss_of(one[:, 1], short[:, 2])
        )

    return taught(model, steps, lesson, warmup=30, decay=0.1, betas=(0.9, 0.98), fall=1.0)


def unfetched(anatomy: Anatomy, case: Case) -> list[Edit]:
    """Take away what attention writes at the last token: nothing is carried there."""
    last = len(case.ids) - 1
    return [Edit(Place("attention", layer, -1, last)) for layer in range(anatomy.layers)]


def overruled(anatomy: Anatomy, case: Case) -> list[Edit]:
    """Let the last layer speak for another answer and against the right one."""
    rival = ANSWER + (case.answer - ANSWER + 1) % ANSWERS
    ours, theirs = (anatomy.unembed[:, token] for token in (case.answer, rival))
    place = Place("mlp", anatomy.layers - 1, -1, len(case.ids) - 1)
    return [Edit(place, 1.0, AGAINST * (theirs - ours) / ours.norm())]


BREAKS = {HOPS[1]: unfetched, HOPS[3]: overruled}
