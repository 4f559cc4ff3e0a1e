"""Probing: in which layer, at which position, a property can be read by a linear probe; with its control.

Selectivity (Hewitt and Liang, 'Designing and Interpreting Probes with Control Tasks', 2019): the same probe
is trained on labels drawn at random, one a prompt type; what it learns there, it learns by heart. A layer is
worth accuracy minus control accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...store.errors import UsageError
from ..checks import both_classes
from ..features.evaluate import logistic
from .anatomy import Anatomy
from .case import Case, need
from .finding import Finding, Grid, layer_names, ranked
from .options import Options
from .place import Place
from .run import record

FOLDS = 4


def held_out_accuracy(x: Tensor, y: Tensor, seed: int, strength: float = 1e-2) -> float:
    """Return the cross-validated accuracy of a logistic probe on states x [N,D], y [N] 0 or 1.

    Raises UsageError when there is one class, or fewer than two rows a fold.
    """
    both_classes("label", y.double())
    if len(x) < 2 * FOLDS:
        raise UsageError(f"{len(x)} prompts for a probe with {FOLDS} folds; give at least {2 * FOLDS}")
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    right = 0
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        train = torch.tensor([i for i in order.tolist() if i not in set(test.tolist())])
        mean, spread = x[train].mean(0), x[train].std(0).clamp_min(1e-6)
        weight, bias = logistic((x[train] - mean) / spread, y[train], strength)
        right += int((((x[test] - mean) / spread @ weight + bias > 0) == (y[test] == 1)).sum())
    return right / len(x)


def control_labels(cases: Sequence[Case], seed: int) -> Tensor:
    """Return random labels [N], the same for prompts of the same tokens: a task without a rule."""
    generator = torch.Generator().manual_seed(seed)
    half = torch.randperm(len(cases), generator=generator) < len(cases) // 2
    drawn: dict[tuple[int, ...], float] = {}
    for case, side in zip(cases, half.tolist(), strict=True):
        drawn.setdefault(case.ids, float(side))
    return torch.tensor([drawn[case.ids] for case in cases])


def selectivity(states: Tensor, y: Tensor, control: Tensor, seed: int) -> tuple[float, float]:
    """Return (accuracy, accuracy on the control task) of a probe on states [N,D]."""
    return held_out_accuracy(states, y, seed), held_out_accuracy(states, control, seed)


def locate_probe(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank layers by selectivity of a probe for `label` (0 or 1) on the last token's state. `how` = mean
    reads the mean over the prompt instead.
    """
    need(cases, "label")
    y = torch.tensor([float(case.label or 0) for case in cases])
    streams = [record(anatomy, case.ids).stream[1:] for case in cases]
    states = torch.stack([s.mean(1) if options.how == "mean" else s[:, -1] for s in streams])
    control = control_labels(cases, options.seed + 1)
    rows = [selectivity(states[:, layer], y, control, options.seed) for layer in range(anatomy.layers)]
    table = torch.tensor(rows)
    scores = {Place("residual", layer): right - wrong for layer, (right, wrong) in enumerate(rows)}
    notes = {
        Place("residual", layer): f"accuracy {right:.3f}, control {wrong:.3f}"
        for layer, (right, wrong) in enumerate(rows)
    }
    return Finding(
        "probe",
        "selectivity (accuracy - control accuracy)",
        ranked(scores, options.top, notes),
        {"prompts": len(cases), "read": options.how or "last"},
        (Grid("Probes", layer_names(anatomy.layers), ("accuracy", "control"), table),),
        fingerprint=anatomy.fingerprint,
    )
