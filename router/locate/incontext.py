"""In-context heads: which heads carry labels from demonstrations to the answer, and the biases they bring.

Yu and Ananiadou, 'How do Large Language Models Learn In-Context? Query and Key Matrices of In-Context Heads
are Two Towers for Metric Learning' (EMNLP 2024). A head counts by what is lost without it and by how much it
raises the right label. `logit_minus` says, position by position, which label a head fetched.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .anatomy import Anatomy, matrix_of
from .attribute import base_of, channel_parts, head_increase, head_vectors, places
from .case import Case, need
from .causal import ablation_effects, candidates
from .edit import Edit, edited
from .finding import Finding, Grid, layer_names, ranked
from .options import Options
from .place import Place
from .readout import Readout, written
from .run import Run, record


def label_positions(case: Case) -> list[int]:
    """Where the demonstrations' labels (the answer's token or its rival's) stand in a prompt."""
    return [at for at, token in enumerate(case.ids) if token in (case.answer, case.against)]


def head_ranks(anatomy: Anatomy, cases: Sequence[Case]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (lost without the head, log-probability increase, mean of both ranks as 0..1): each [L,H]."""
    heads = candidates(anatomy, "heads")
    lost = torch.stack([ablation_effects(anatomy, case, heads) for case in cases]).mean(0)
    raised = torch.stack([head_increase(anatomy, record(anatomy, c.ids), c.answer) for c in cases]).mean(0)
    lost = lost.reshape(raised.shape)
    return lost, raised, (_shares(lost) + _shares(raised)) / 2


def _shares(x: Tensor) -> Tensor:
    """Each number's rank, from 0 (least) to 1 (most)."""
    flat = x.flatten()
    return (flat.argsort().argsort().float() / max(flat.numel() - 1, 1)).reshape(x.shape)


def logit_minus(anatomy: Anatomy, run: Run, case: Case, head: Place) -> Tensor:
    """Return log P(answer) - log P(against) of what a head fetched from each position: [T]."""
    assert case.against is not None
    readout, base = Readout(anatomy, run), base_of(run, head.layer, "attention")
    parts = channel_parts(anatomy, run, head.layer)
    columns = anatomy.head_columns(head.unit)
    out = written(anatomy, run, head.layer, "attention", matrix_of(anatomy.blocks[head.layer].mix), -1)
    vectors = base + parts[:, columns] @ out[columns]
    return readout.log_probability(vectors, case.answer) - readout.log_probability(vectors, case.against)


def majority_edit(anatomy: Anatomy, case: Case, heads: Sequence[Place], strength: float = 0.03) -> Edit:
    """Return the correction for an unbalanced prompt: what `heads` fetched from the rarer label's positions,
    times strength * (majority / minority), is added to the last state. Strength 0 changes nothing.
    """
    run = record(anatomy, case.ids, weights=True)
    labels = [case.ids[at] for at in label_positions(case)]
    assert case.against is not None
    counts = {token: labels.count(token) for token in (case.answer, case.against)}
    rare = min(counts, key=lambda token: counts[token])
    most, least = max(counts.values()), max(min(counts.values()), 1)
    extra = torch.zeros_like(run.stream[0, 0])
    for layer in sorted({head.layer for head in heads}):
        parts = channel_parts(anatomy, run, layer)
        at = [p for p in label_positions(case) if case.ids[p] == rare]
        each = head_vectors(anatomy, run, layer, parts[at].sum(0))
        extra += each[[head.unit for head in heads if head.layer == layer]].sum(0)
    balanced = most == least
    value = extra * (0.0 if balanced else strength * most / least)
    last = len(case.ids) - 1
    return Edit(Place("residual", anatomy.layers - 1, -1, last), 1.0, value)


def corrected(anatomy: Anatomy, case: Case, edit: Edit) -> Tensor:
    """Return the logits [V] of the last token under a correction."""
    return edited(anatomy, torch.tensor(case.ids), [[edit]])[0]


def locate_incontext(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank heads by the mean of two ranks: what is lost without them, and how much they raise the right
    label. Prompts need `answer` and `against`, both standing as labels in the prompt.
    """
    need(cases, "against")
    lost, raised, scores = head_ranks(anatomy, cases)
    columns = tuple(f"H{i}" for i in range(anatomy.heads))
    names = layer_names(anatomy.layers)
    found = ranked(places("head", scores), options.top)
    best = found[0].place
    run = record(anatomy, cases[0].ids, weights=True)
    minus = logit_minus(anatomy, run, cases[0], best)
    words = tuple(f"{i} {text}" for i, text in enumerate(cases[0].words()))
    return Finding(
        "incontext",
        "mean of two ranks (loss without it, increase of the right label)",
        tuple(
            one._replace(
                note=f"lost {float(lost[one.place.layer, one.place.unit]):.3g}, "
                f"raises {float(raised[one.place.layer, one.place.unit]):.3g}"
            )
            for one in found
        ),
        {"prompts": len(cases)},
        (
            Grid("Lost without the head", names, columns, lost),
            Grid("Log-probability increase of the right label", names, columns, raised),
            Grid(f"Label fetched by {best.name}, by position (first prompt)", ("minus",), words, minus[None]),
        ),
        {"lost": lost, "raised": raised},
        anatomy.fingerprint,
    )
