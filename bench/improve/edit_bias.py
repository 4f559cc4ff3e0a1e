"""Shrinking a bias for good, on the planted corpus of trades and words of given gender."""

from __future__ import annotations

from typing import Any

import torch

from ...router.locate.anatomy import Anatomy
from ...router.locate.contrast import bias, contrast_scores
from ...router.locate.place import Place
from ...router.steer.bias import Trial, general_neurons
from ...specialists.improve.edit import first_choices, put, scaled, share_of
from ...specialists.improve.edit_spared import Sparing, spared
from ...specialists.improve.edit_step import EditSettings, chosen
from ..locate.genders import World, trained
from .little import loss_on

STEPS, NEUTRAL, JUDGED = 300, 48, 200
NEURONS = 18
FIT = Sparing(steps=80, rate=0.1, keep=3.0)


def bias_trial(seed: int, quick: bool) -> dict[str, dict[str, float]]:
    """Shrink neurons found on half of the trades, sparing half of the facts; measure on the other halves, and
    on other sentences about things.
    """
    world = World.draw(seed)
    model = trained(world, seed, 60 if quick else STEPS)
    anatomy = Anatomy.of(model)
    trades, facts = world.trade_cases(), world.fact_cases()
    seen = Trial(trades[::2], facts[::2], world.neutral(NEUTRAL, 100 + seed))
    rest = torch.tensor(world.neutral(JUDGED, 200 + seed))

    def measure() -> dict[str, float]:
        return {
            "bias": bias(anatomy, seen.biased),
            "bias, other jobs": bias(anatomy, trades[1::2]),
            "facts right": share_of(facts[1::2], first_choices(anatomy, [c.ids for c in facts[1::2]])),
            "loss elsewhere": loss_on(model, rest, 64),
        }

    rows = {"as trained": measure()}
    for name, (places, scales) in edits(anatomy, seen, seed).items():
        undo = put(model, scaled(anatomy, places, scales))
        rows[name] = measure() | {"neurons": float(len(places))}
        put(model, undo)
    return rows


def edits(anatomy: Anatomy, seen: Trial, seed: int) -> dict[str, tuple[list[Place], list[float]]]:
    """The neurons of each row and what each is multiplied by: general and random ones, in order, by what is
    found for those located.

    General neurons pass two tests as the others do: fed from other words than the subject (or speaking for
    both answers), and of those the ones whose silence costs text most.
    """

    def found(**settings: Any) -> list[Place]:
        asked = EditSettings(what="bias", data="trades", neurons=NEURONS, **settings)
        return chosen(asked, anatomy, seen.biased, seed)

    located, alone = found(spare="facts"), found(limit=96)
    factors = spared(anatomy, located, seen.biased, [c.ids for c in seen.factual], seen.neutral, FIT)
    fed = int((contrast_scores(anatomy, seen.biased).general > 0).sum())
    every = [Place("neuron", at, unit) for at in range(anatomy.layers) for unit in range(anatomy.neurons)]
    return {
        "located neurons shrunk": (located, factors),
        "general neurons shrunk as much": (general_neurons(anatomy, seen, NEURONS, fed), factors),
        "random neurons shrunk as much": (found(by="random"), factors),
        "located neurons silenced": (alone, [0.0] * len(alone)),
        "all neurons silenced": (every, [0.0] * len(every)),
    }
