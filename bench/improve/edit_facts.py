"""Rewriting facts for good, in a table of subjects with three relations each, asked in two ways.

A subject with a single relation is nothing but its object to the model: two with the same object are then
alike inside, whichever neurons are rewritten. With several relations they differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.place import Place
from ...specialists.improve.edit import Rewriting, first_choices, put, rewritten, share_of, share_same
from ...specialists.improve.edit_step import EditSettings, chosen
from .little import decoder, train

SUBJECTS, RELATIONS, OBJECTS, EDITED, ANCHORS = 32, 3, 16, 4, 12
NEURONS, STEPS = 24, 300
OTHERWISE = 1 + 2 * RELATIONS  # the second way of asking has a word more
FIRST_SUBJECT = OTHERWISE + 1
FIRST_OBJECT = FIRST_SUBJECT + SUBJECTS
HOW = Rewriting(steps=100, rate=0.1, keep=3.0, until=0.5)


def asked(opening: int, subject: int, relation: int, answer: int) -> Case:
    """A prompt of 2 or 3 tokens, by the way of asking, and the object that it is to say."""
    said = (1 + relation,) if opening == 0 else (1 + RELATIONS + relation, OTHERWISE)
    return Case((*said, FIRST_SUBJECT + subject), FIRST_OBJECT + answer)


def taught(truth: Sequence[Sequence[int]], seed: int, steps: int, generator: torch.Generator) -> Any:
    """A decoder that learnt the objects `truth` [S][R] of every subject, both ways."""
    every = [asked(o, s, r, truth[s][r]) for o in (0, 1) for r in range(RELATIONS) for s in range(SUBJECTS)]
    table = torch.tensor([[*c.ids, c.answer, *[0] * (3 - len(c.ids))] for c in every])

    def batch(_step: int) -> tuple[Tensor, Tensor]:
        rows = table[torch.randint(0, len(table), (96,), generator=generator)]
        last = (rows > 0).sum(1, keepdim=True) - 2
        return rows, torch.zeros(len(rows), rows.shape[1] - 1).scatter(1, last, 1.0)

    model = decoder(FIRST_OBJECT + OBJECTS, 64, 4, seed)
    return train(model, batch, steps, 3e-3).requires_grad_(False)


def facts_trial(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Rewrite some facts at located, at random and at all neurons; ask them the other way, and ask the
    others. Prompts about other subjects still, both ways, are held; none of those is asked.
    """
    g = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, OBJECTS, (SUBJECTS, RELATIONS), generator=g).tolist()
    model = taught(truth, seed, 60 if quick else STEPS, g)
    anatomy = Anatomy.of(model)
    subjects = torch.randperm(SUBJECTS, generator=g).tolist()
    edited, held, others = (
        subjects[:EDITED],
        subjects[EDITED : EDITED + ANCHORS],
        subjects[EDITED + ANCHORS :],
    )
    new = [(s, (truth[s][0] + 1 + i) % OBJECTS) for i, s in enumerate(edited)]
    cases, again = ([asked(o, s, 0, answer) for s, answer in new] for o in (0, 1))

    def prompts(some: Sequence[int], relations: Sequence[int]) -> list[tuple[int, ...]]:
        return [asked(o, s, r, 0).ids for o in (0, 1) for r in relations for s in some]

    rest, near = prompts(others, range(RELATIONS)), prompts(edited, range(1, RELATIONS))
    before = [first_choices(anatomy, some) for some in (rest, near)]

    def measure() -> dict[str, float]:
        return {
            "efficacy": share_of(cases, first_choices(anatomy, [c.ids for c in cases])),
            "generality": share_of(again, first_choices(anatomy, [c.ids for c in again])),
            "specificity": share_same(before[0], first_choices(anatomy, rest)),
            "the same subjects' other facts": share_same(before[1], first_choices(anatomy, near)),
        }

    rows, anchors = {"as trained": measure()}, prompts(held, range(RELATIONS))
    for name, places, kept, how in ways(anatomy, cases, anchors, seed):
        columns = rewritten(anatomy, places, cases, kept, how)
        undo = put(model, columns)
        rows[f"rewritten at {name}"] = measure()
        put(model, undo)
    return rows


Way = tuple[str, list[Place], Sequence[tuple[int, ...]], Rewriting]


def ways(anatomy: Anatomy, cases: Sequence[Case], anchors: Sequence[tuple[int, ...]], seed: int) -> list[Way]:
    """Name, neurons, prompts held and manner of each row."""
    every = [Place("neuron", at, unit) for at in range(anatomy.layers) for unit in range(anatomy.neurons)]

    def found(by: Literal["located", "random"]) -> list[Place]:
        return chosen(EditSettings(what="facts", data="facts", by=by, neurons=NEURONS), anatomy, cases, seed)

    located = found("located")
    return [
        ("located neurons", located, anchors, HOW),
        ("random neurons", found("random"), anchors, HOW),
        ("all neurons", every, anchors, HOW),
        ("located neurons, nothing held", located, (), HOW),
    ]
