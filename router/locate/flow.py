"""Logit flow: where, in layers and positions, the answer's logit comes from.

After Yu and Ananiadou's back-attention paper (EMNLP 2025), reconstructed: at the last token, importance of
FFN and attention neurons; attention goes to its source positions; there, the query neurons that fed it.
Stages of one-hop recall: A the subject is enriched (MLPs at the subject), B its attribute is extracted
(attention to the subject), C the relation is enriched (MLPs elsewhere before the last token), D the answer is
extracted (what the last token's MLPs and its attention to itself add).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .anatomy import Anatomy
from .attribute import query_neurons, value_channels, value_neurons
from .case import Case, need
from .finding import Finding, Grid, layer_names, ranked
from .options import Options
from .place import Place
from .run import record

STAGES = ("A subject enriched", "B attribute extracted", "C relation enriched", "D answer extracted")


@dataclass(frozen=True, eq=False)
class Flow:
    """Importance by layer and position, [L,T]: what attention fetched there, what MLPs wrote there."""

    attention: Tensor
    mlp: Tensor


def flow_of(anatomy: Anatomy, case: Case, neurons: int = 30) -> Flow:
    """Trace a case: the `neurons` best value neurons of each sort, and what feeds those of attention."""
    run = record(anatomy, case.ids, weights=True)
    channels = best(value_channels(anatomy, run, case.answer), neurons)
    deep = best(value_neurons(anatomy, run, case.answer), neurons)
    mlp = query_neurons(anatomy, run, case.answer, values=neurons).sum(-1)
    mlp[:, -1] += deep.sum(-1)
    return Flow(channels.sum(-1), mlp)


def best(scores: Tensor, count: int) -> Tensor:
    """Scores with all but the `count` highest, and all negative ones, at zero."""
    edge = scores.flatten().topk(min(count, scores.numel())).values[-1].clamp_min(0)
    return torch.where(scores >= edge, scores, torch.zeros_like(scores)).clamp_min(0)


def stages(flow: Flow, subject: tuple[int, int]) -> Tensor:
    """Return, for the stages A to D, (importance, mean layer): [4,2]; the mean layer of nothing is -1."""
    inside = torch.zeros(flow.mlp.shape[1], dtype=torch.bool, device=flow.mlp.device)
    inside[subject[0] : subject[1]] = True
    last = torch.zeros_like(inside)
    last[-1] = True
    parts = (
        flow.mlp * inside,
        flow.attention * inside,
        (flow.mlp + flow.attention) * ~(inside | last),
        (flow.mlp + flow.attention) * (last & ~inside),
    )
    return torch.stack([_summary(part) for part in parts])


def _summary(part: Tensor) -> Tensor:
    by_layer = part.clamp_min(0).sum(1)
    total = by_layer.sum()
    layers = torch.arange(len(by_layer), device=part.device, dtype=part.dtype)
    mean = (by_layer @ layers) / total if float(total) > 0 else torch.tensor(-1.0)
    return torch.stack([total, mean.to(total)])


def locate_flow(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank (layer, half, position) of the first prompt by importance; with a subject, weigh the four stages
    over all prompts. Prompts with a bridge are diagnosed: which of two hops fails.
    """
    need(cases, "")
    if any(case.bridge is not None for case in cases):
        from .diagnosis import diagnose  # which traces flows in turn

        return diagnose(anatomy, cases, options.top)
    flows = [flow_of(anatomy, case) for case in cases]
    first, case = flows[0], cases[0]
    scores = {
        Place(half, layer, -1, at): float(value)  # type: ignore[arg-type]
        for half, grid in (("attention", first.attention), ("mlp", first.mlp))
        for layer, row in enumerate(grid.tolist())
        for at, value in enumerate(row)
    }
    columns = tuple(f"{i} {text}" for i, text in enumerate(case.words()))
    grids = (
        Grid(
            "Fetched by the last token's attention (first prompt)",
            layer_names(anatomy.layers),
            columns,
            first.attention,
        ),
        Grid("Written by MLPs (first prompt)", layer_names(anatomy.layers), columns, first.mlp),
    )
    return Finding(
        "flow",
        "importance for the answer (nats)",
        ranked(scores, options.top),
        {"prompts": len(cases)} | _stage_facts(flows, cases),
        grids,
        fingerprint=anatomy.fingerprint,
    )


def _stage_facts(flows: Sequence[Flow], cases: Sequence[Case]) -> dict[str, float | int | str]:
    known = [(flow, case.subject) for flow, case in zip(flows, cases, strict=True) if case.subject]
    if not known:
        return {}
    found = torch.stack([stages(flow, subject) for flow, subject in known])
    facts: dict[str, float | int | str] = {}
    for index, name in enumerate(STAGES):
        layers = [row for row in found[:, index, 1].tolist() if row >= 0]
        mean = f"{sum(layers) / len(layers):.2f}" if layers else "-"
        facts[name] = f"{float(found[:, index, 0].mean()):.3g} nats, mean layer {mean}"
    return facts
