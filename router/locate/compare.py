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
from .causal import candidates
from .edit import Edit, edited, record_edited
from .finding import Finding, Found, Grid, layer_names, mean_of, ranked
from .options import Options
from .place import Place
from .run import Run, record


def compare_runs(anatomy: Anatomy, case: Case, edits: Sequence[Edit]) -> tuple[Tensor, Tensor]:
    """Return (importance lost, coefficient lost) of each neuron when `edits` are made: both [L,F].

    Importance below 0 counts as none, before and after: a neuron cannot lose what it never did for the
    answer. Without that, neurons that only begin to speak against it in the changed run lead the ranking, and
    silencing them in the clean run does nothing.
    """
    clean, changed = record(anatomy, case.ids), record_edited(anatomy, case.ids, edits)
    lost = _for_answer(anatomy, clean, case) - _for_answer(anatomy, changed, case)
    return lost, clean.neurons[:, -1] - changed.neurons[:, -1]


def _for_answer(anatomy: Anatomy, run: Run, case: Case) -> Tensor:
    return value_neurons(anatomy, run, case.answer).clamp_min(0)


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
    score = _for_answer(anatomy, here, case) - _for_answer(other, there, case)
    return score, here.neurons[:, -1] - there.neurons[:, -1]


def key_heads(anatomy: Anatomy, cases: Sequence[Case], share: float = 0.1) -> tuple[Place, ...]:
    """The fewest heads, chosen greedily, without which the answers keep less than `share` of their
    probability.

    The source silences a head that costs many answers. Where heads stand in for each other no single one
    does: then nothing breaks, every neuron keeps its work, and the comparison ranks noise. So heads are
    silenced until the answer falls (or all are).
    """
    heads, chosen = candidates(anatomy, "heads"), list[Place]()
    before = sum(_probability(record(anatomy, case.ids).logits[-1], case) for case in cases)
    while heads:
        left = torch.zeros(len(heads), 2)
        for case in cases:
            edits = [[Edit(head) for head in (*chosen, one)] for one in heads]
            logits = edited(anatomy, torch.tensor(case.ids), edits)
            left[:, 0] += torch.stack([torch.tensor(_probability(row, case)) for row in logits])
            left[:, 1] += case.measure(logits).cpu()
        best = int(left[:, 1].argmin())
        chosen.append(heads.pop(best))
        if float(left[best, 0]) < share * before:
            break
    return tuple(chosen)


def _probability(logits: Tensor, case: Case) -> float:
    return float(logits.softmax(-1)[case.answer])


def locate_compare(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank neurons by importance lost when a head is silenced (`kind` names it, `L3.H2`; else the key heads),
    or, with a second model, by importance gained over that model.
    """
    need(cases, "")
    if options.other is not None:
        other = options.other if isinstance(options.other, Anatomy) else Anatomy.of(options.other)
        changes, what = [compare_models(anatomy, other, case) for case in cases], "another model"
    else:
        heads = (Place.parse(options.kind),) if options.kind else key_heads(anatomy, cases)
        changes = [compare_runs(anatomy, case, [Edit(head) for head in heads]) for case in cases]
        what = f"{', '.join(head.name for head in heads)} silenced"
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
