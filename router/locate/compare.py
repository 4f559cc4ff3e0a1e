"""Comparative neuron analysis: which neurons' importance changes most between two runs, or two models.

Yu and Ananiadou, 'Interpreting Arithmetic Mechanism in Large Language Models through Comparative Neuron
Analysis' (EMNLP 2024): the same prompt and the same target token, once as it is and once with a head silenced
(or in another model); a neuron scores the log-probability increase it loses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy
from .attribute import places, value_neurons
from .case import Case, need
from .causal import ablation_effects, candidates
from .edit import Edit, record_edited
from .finding import Finding, Found, Grid, layer_names, mean_of, ranked
from .options import Options
from .place import Place
from .run import record


def compare_runs(anatomy: Anatomy, case: Case, edits: Sequence[Edit]) -> tuple[Tensor, Tensor]:
    """Return (importance lost, coefficient lost) of each neuron when `edits` are made: both [L,F]."""
    clean, changed = record(anatomy, case.ids), record_edited(anatomy, case.ids, edits)
    lost = value_neurons(anatomy, clean, case.answer) - value_neurons(anatomy, changed, case.answer)
    return lost, clean.neurons[:, -1] - changed.neurons[:, -1]


def compare_models(anatomy: Anatomy, other: Anatomy, case: Case) -> tuple[Tensor, Tensor]:
    """Return (importance, coefficient) of each neuron in this model less those in the other: both [L,F].

    Raises UsageError when the two differ in shape: then neurons have no counterparts.
    """
    if (anatomy.layers, anatomy.neurons, anatomy.width) != (other.layers, other.neurons, other.width):
        raise UsageError(
            f"the models have {anatomy.layers} x {anatomy.neurons} and {other.layers} x {other.neurons} "
            "neurons; "
            "only two trainings of one architecture can be compared neuron by neuron"
        )
    here, there = record(anatomy, case.ids), record(other, case.ids)
    score = value_neurons(anatomy, here, case.answer) - value_neurons(other, there, case.answer)
    return score, here.neurons[:, -1] - there.neurons[:, -1]


def key_head(anatomy: Anatomy, cases: Sequence[Case]) -> Place:
    """The head without which the answers suffer most, on average."""
    heads = candidates(anatomy, "heads")
    effects = torch.stack([ablation_effects(anatomy, case, heads) for case in cases]).mean(0)
    return heads[int(effects.argmax())]


def locate_compare(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank neurons by importance lost when a head is silenced (`kind` names it, `L3.H2`; else the key head),
    or, with a second model, by importance gained over that model.
    """
    need(cases, "")
    if options.other is not None:
        other = options.other if isinstance(options.other, Anatomy) else Anatomy.of(options.other)
        changes, what = [compare_models(anatomy, other, case) for case in cases], "another model"
    else:
        head = Place.parse(options.kind) if options.kind else key_head(anatomy, cases)
        changes = [compare_runs(anatomy, case, [Edit(head)]) for case in cases]
        what = f"{head.name} silenced"
    scores, coefficients = mean_of([one for one, _ in changes]), mean_of([one for _, one in changes])
    found = tuple(
        Found(one.name, one.score, f"coefficient {float(coefficients[one.place.layer, one.place.unit]):+.3g}")
        for one in ranked(places("neuron", scores), options.top)
    )
    by_layer = scores.clamp_min(0).sum(1)[:, None]
    return Finding(
        "compare",
        "importance lost (nats)" if options.other is None else "importance gained (nats)",
        found,
        {"prompts": len(cases), "compared with": what},
        (Grid("Importance that changed, by layer", layer_names(anatomy.layers), ("sum",), by_layer),),
        {"scores": scores, "coefficients": coefficients},
        anatomy.fingerprint,
    )
