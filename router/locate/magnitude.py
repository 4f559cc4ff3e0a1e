"""Magnitude analysis: what is large, in the weights or in the activations on given prompts. No gradient, no
training; a prior, not a cause: check what it names by ablation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...store.errors import UsageError
from .anatomy import Anatomy, matrix_of, unflatten
from .attribute import places
from .case import Case, need
from .finding import Finding, Grid, layer_names, mean_of, ranked
from .options import Options
from .run import Run, record


def weight_norms(anatomy: Anatomy, kind: str) -> Tensor:
    """Return the length of what each neuron [L,F] or head [L,H] writes per unit (heads: Frobenius norm)."""
    rows = []
    for block in anatomy.blocks:
        if kind == "neurons":
            rows.append(matrix_of(block.down).norm(dim=1))
        else:
            out = unflatten(matrix_of(block.mix), 0, (anatomy.heads, anatomy.head_size))
            rows.append(out.flatten(1).norm(dim=1))
    return torch.stack(rows).detach()


def written_norms(anatomy: Anatomy, run: Run, kind: str) -> Tensor:
    """Return how much each neuron [L,F] or head [L,H] writes on a prompt: mean length over its tokens."""
    if kind == "neurons":
        return run.neurons.abs().mean(1) * weight_norms(anatomy, kind)
    rows = []
    for layer, block in enumerate(anatomy.blocks):
        out = unflatten(matrix_of(block.mix), 0, (anatomy.heads, anatomy.head_size))
        z = unflatten(run.mixed[layer], -1, (anatomy.heads, anatomy.head_size))
        rows.append(torch.einsum("thd,hde->the", z, out).norm(dim=-1).mean(0))
    return torch.stack(rows).detach()


def contrast(with_it: Tensor, without: Tensor) -> Tensor:
    """Return how far activations [N,...] of one class lie above another's, in pooled standard deviations."""
    if len(with_it) < 2 or len(without) < 2:
        raise UsageError(
            f"{len(with_it)} and {len(without)} prompts of the classes; a contrast needs two of each"
        )
    spread = ((with_it.var(0) + without.var(0)) / 2).sqrt()
    return (with_it.mean(0) - without.mean(0)) / spread.clamp_min(1e-6 + 1e-3 * float(spread.mean()))


def locate_magnitude(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank neurons (default) or heads. `how` = written (default): how much they write on the prompts;
    weights: how long what they write is; contrast: how far their activation at the last token is higher on
    prompts with label 1 than on those with label 0.
    """
    kind, how = options.kind or "neurons", options.how or "written"
    if how == "weights":
        scores = weight_norms(anatomy, kind)
    elif how == "written":
        scores = mean_of(
            [written_norms(anatomy, record(anatomy, case.ids), kind) for case in need(cases, "")]
        )
    else:
        scores = _contrast(anatomy, need(cases, "label"), kind)
    name = "neuron" if kind == "neurons" else "head"
    return Finding(
        "magnitude",
        {"weights": "length of weights", "written": "mean length written"}.get(
            how, "pooled standard deviations"
        ),
        ranked(places(name, scores), options.top),
        {"prompts": len(cases), "kind": kind, "how": how},
        (Grid("Largest by layer", layer_names(anatomy.layers), (kind,), scores.amax(1)[:, None]),),
        {"scores": scores},
        anatomy.fingerprint,
    )


def _contrast(anatomy: Anatomy, cases: Sequence[Case], kind: str) -> Tensor:
    groups: dict[int, list[Tensor]] = {0: [], 1: []}
    for case in cases:
        run = record(anatomy, case.ids)
        acts = run.neurons[:, -1]
        if kind == "heads":
            acts = unflatten(run.mixed[:, -1], -1, (anatomy.heads, anatomy.head_size)).norm(dim=-1)
        if case.label not in groups:
            raise UsageError(f"label {case.label} is neither 0 nor 1; a contrast has two classes")
        groups[int(case.label or 0)].append(acts)
    if not groups[0] or not groups[1]:
        raise UsageError("all prompts have one label; a contrast needs both 0 and 1")
    return contrast(torch.stack(groups[1]), torch.stack(groups[0]))
