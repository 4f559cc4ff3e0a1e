"""Vocabulary projection: read the stream of every layer and position in words.

Logit lens (nostalgebraist, 2020): final norm and head on an intermediate state; the state's own variance is
used. Probability lens: the same after softmax, which says how sure the layer would be, were it the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .anatomy import Anatomy
from .case import Case, need
from .finding import Finding, Grid, layer_names, mean_of, ranked
from .options import Options
from .place import Place
from .readout import FixedNorm
from .run import Run, linear, record

Word = Callable[[int], str]


def lens_logits(anatomy: Anatomy, run: Run) -> Tensor:
    """Return what each state says: [L+1,T,V]; row 0 is the embedding, row L the model's own logits."""
    found = []
    for state in run.stream:
        norm = FixedNorm(anatomy.norm, state)
        logits = linear(anatomy.head, norm(state) + norm.constant)
        cap = anatomy.softcap
        found.append(logits if cap is None else cap * torch.tanh(logits / cap))
    return torch.stack(found)


def locate_lens(anatomy: Anatomy, cases: Sequence[Case], options: Options, word: Word = str) -> Finding:
    """Rank states (layer, position) by how strongly they already say the answer.

    `how` = `probability` (default) ranks by P(answer), `logit` by its logit. Positions are ranked over all
    prompts for the last token, and drawn for the first prompt; the facts say from which layer on the answer
    leads, on average.
    """
    need(cases, "")
    rows, leads = [], []
    first: tuple[Tensor, Tensor] | None = None
    for case in cases:
        logits = lens_logits(anatomy, record(anatomy, case.ids))
        shares = logits.softmax(-1)
        first = first or (logits, shares)
        rows.append((logits if options.how == "logit" else shares)[1:, -1, case.answer])
        leads.append(_from_layer(logits[1:, -1].argmax(-1) == case.answer))
    assert first is not None
    scores = {
        Place("residual", layer, -1, -1): float(score) for layer, score in enumerate(mean_of(rows).tolist())
    }
    reached = [lead for lead in leads if lead is not None]
    return Finding(
        "lens",
        "logit of the answer" if options.how == "logit" else "P(answer)",
        ranked(scores, options.top),
        {
            "prompts": len(cases),
            "prompts where the answer leads at the end": len(reached),
            "mean layer from which it leads": sum(reached) / len(reached) if reached else "never",
        },
        _grids(cases[0], *first, word),
        fingerprint=anatomy.fingerprint,
    )


def _from_layer(leads: Tensor) -> int | None:
    """The first layer from which on the answer leads to the end; None where it does not lead at the end."""
    behind = torch.nonzero(~leads)
    start = int(behind[-1]) + 1 if behind.numel() else 0
    return start if start < len(leads) else None


def _grids(case: Case, logits: Tensor, shares: Tensor, word: Word) -> tuple[Grid, ...]:
    layers = ("embed", *layer_names(logits.shape[0] - 1))
    columns = tuple(f"{i} {text}" for i, text in enumerate(case.words()))
    best = logits.argmax(-1)
    texts = tuple(tuple(word(int(token)) for token in row) for row in best)
    top = shares.amax(-1)
    return (
        Grid("What each state would say, and how surely (first prompt)", layers, columns, top, texts),
        Grid(
            "P(answer) at each layer and position (first prompt)", layers, columns, shares[..., case.answer]
        ),
        Grid("Logit of the answer (first prompt)", layers, columns, logits[..., case.answer]),
    )
