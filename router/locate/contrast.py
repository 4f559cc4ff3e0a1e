"""Contrast and general neurons: which neurons tip the answer between two words, and which everything hangs
on.

After Yu and Ananiadou's gender-bias study, reconstructed (its selection thresholds are not published). Logit
part: a value neuron's importance for the answer less that for its rival; a query neuron's feeding, split by
whether it sits at the subject (contrast, such as a profession) or elsewhere (general, such as function
words). Causal part: what zeroing does to the contrast, and to the loss on other tokens. A contrast neuron
passes both and hurts little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .anatomy import Anatomy
from .attribute import places, query_neurons, value_neurons
from .case import Case, need
from .edit import Edit, edited, record_edited
from .finding import Finding, Found, Grid, layer_names, mean_of, ranked
from .options import Options
from .place import Place
from .run import Run, record


class Scores(NamedTuple):
    """Each [L,F]: leaning to the answer over its rival (value neurons), feeding from the subject; and
    `general`, feeding from elsewhere plus what is said for both words alike.
    """

    leaning: Tensor
    subject: Tensor
    general: Tensor


def contrast_scores(anatomy: Anatomy, cases: Sequence[Case]) -> Scores:
    """Score neurons over cases with `answer`, `against` and `subject`."""
    need(need(cases, "against"), "subject")
    rows = [_scores(anatomy, case) for case in cases]
    return Scores(*(mean_of(parts) for parts in zip(*rows, strict=True)))


def _scores(anatomy: Anatomy, case: Case) -> Scores:
    assert case.against is not None
    assert case.subject is not None
    run = record(anatomy, case.ids, weights=True)
    ours, theirs = (value_neurons(anatomy, run, token) for token in (case.answer, case.against))
    feeding = query_neurons(anatomy, run, case.answer)
    inside = torch.zeros(run.tokens, dtype=torch.bool)
    inside[case.subject[0] : case.subject[1]] = True
    alike = torch.minimum(ours, theirs).clamp_min(0)
    return Scores(ours - theirs, feeding[:, inside].sum(1), feeding[:, ~inside].sum(1) + alike)


def contrast_of(cases: Sequence[Case], logits: Tensor) -> float:
    """Return the mean |log p(answer) - log p(against)| of logits [N,V]: the bias of the cases."""
    gaps = [
        abs(float(row[case.answer] - row[case.against or 0])) for case, row in zip(cases, logits, strict=True)
    ]
    return sum(gaps) / len(gaps)


def bias(anatomy: Anatomy, cases: Sequence[Case], removed: Sequence[Place] = ()) -> float:
    """Return the bias of the cases with neurons zeroed."""
    edits = [Edit(place) for place in removed]
    return contrast_of(cases, torch.stack([edited(anatomy, torch.tensor(c.ids), [edits])[0] for c in cases]))


def neutral_loss(anatomy: Anatomy, texts: Sequence[Sequence[int]], removed: Sequence[Place] = ()) -> float:
    """Return the mean next-token loss (nats) on token rows with neurons zeroed."""
    edits = [Edit(place) for place in removed]
    losses = [_loss(record_edited(anatomy, torch.tensor(list(row)), edits)) for row in texts]
    return sum(losses) / len(losses)


def _loss(run: Run) -> float:
    return float(torch.nn.functional.cross_entropy(run.logits[:-1], run.ids[1:]))


def locate_contrast(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank neurons by leaning to the answer plus feeding from the subject; of the `limit` best, keep those
    whose zeroing shrinks the bias, and note what it does to the loss on the prompts themselves.
    """
    scores = contrast_scores(anatomy, cases)
    total = scores.leaning.abs() + scores.subject
    tried = ranked(places("neuron", total), min(options.limit, max(options.top, 1)))
    before = bias(anatomy, cases)
    texts = [case.ids for case in cases if len(case.ids) > 1]
    loss = neutral_loss(anatomy, texts)
    found = []
    for one in tried:
        after, worse = bias(anatomy, cases, [one.place]), neutral_loss(anatomy, texts, [one.place]) - loss
        if after < before:
            found.append(Found(one.name, one.score, f"bias {after / before - 1:+.1%}, loss {worse:+.4f}"))
    general = ranked(places("neuron", scores.general), options.top)
    table = torch.stack([s.abs().sum(1) for s in scores], 1)
    return Finding(
        "contrast",
        "leaning to the answer + feeding from the subject",
        tuple(found),
        {
            "prompts": len(cases),
            "bias": before,
            "tried": len(tried),
            "general neurons": ", ".join(one.name for one in general[:8]),
        },
        (Grid("Scores by layer", layer_names(anatomy.layers), ("leaning", "subject", "general"), table),),
        dict(zip(("leaning", "subject", "general"), scores, strict=True)),
        anatomy.fingerprint,
    )
