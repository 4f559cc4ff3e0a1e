"""Attention sinks: heads that look at the first token whatever it is, and the state that draws them.

Sink score of a head: mean attention to position 0 of queries from position 8 on. An untrained head gives it
1 / (t + 1), its fair share. Norm ratio of a layer: |h_0| over the median |h_p|. Peng et al., 'How Attention
Sinks Emerge in Large Language Models' (2026); the norm clamp is the intervention that its reviewers asked
for. Before a norm only the direction of a state is read, so shrinking it does little until later layers turn
it; the clamps of coordinates and of the direction that sets position 0 apart take away what is read (ours).
`random` moves the state as far as the clamp of the direction, along a drawn axis: a control.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from .anatomy import Anatomy, eager_attention, first, hooks
from .attribute import places
from .case import Case, need
from .finding import Finding, Grid, layer_names, ranked
from .options import Options
from .run import device_of, prompt_row, record

FROM = 8  # the first query counted


def _long(case: Case) -> Case:
    if len(case.ids) <= FROM:
        raise UsageError(
            f"a prompt has {len(case.ids)} tokens; sinks are read from queries {FROM} on: give longer prompts"
        )
    return case


def sink_scores(anatomy: Anatomy, cases: Sequence[Case]) -> Tensor:
    """Return the sink score of each head: [L,H], the mean over prompts. Raises UsageError for short
    prompts.
    """
    return torch.stack([_scores(anatomy, _long(case)) for case in need(cases, "")]).mean(0)


@torch.no_grad()
def _scores(anatomy: Anatomy, case: Case) -> Tensor:
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        seen.append(output[1][0, :, FROM:, 0].float().mean(-1))

    handles = [block.attention.register_forward_hook(keep) for block in anatomy.blocks]
    with eager_attention(anatomy.model), hooks(*handles):
        anatomy.model(prompt_row(case.ids, device_of(anatomy)))
    return torch.stack(seen)


def fair_share(cases: Sequence[Case]) -> float:
    """What a head without preferences gives position 0: the mean of 1 / (t + 1) over the queries counted."""
    shares = [1 / (t + 1) for case in cases for t in range(FROM, len(_long(case).ids))]
    return sum(shares) / len(shares)


def norm_ratios(anatomy: Anatomy, cases: Sequence[Case]) -> Tensor:
    """Return |h_0| / median |h_p| after the embedding and after each layer: [L+1]."""
    found = []
    for case in cases:
        norms = record(anatomy, case.ids).stream.norm(dim=-1)
        found.append(norms[:, 0] / norms[:, 1:].median(dim=1).values.clamp_min(1e-12))
    return torch.stack(found).mean(0)


CLAMPS = ("norm", "coordinates", "direction", "random")


def _shrunk(x: Tensor) -> Tensor:
    """Position 0 of x [B,T,D] at the median norm of the others, if it was larger: [B,1,D]."""
    norms = x.norm(dim=-1, keepdim=True)
    limit = norms[:, 1:].median(dim=1).values / norms[:, 0].clamp_min(1e-12)
    shrunk: Tensor = x[:, :1] * limit.clamp_max(1)[:, None]
    return shrunk


def _capped(x: Tensor) -> Tensor:
    """Position 0 of x [B,T,D] with no coordinate larger than any other position's: [B,1,D]."""
    limit = x[:, 1:].abs().amax(1, keepdim=True)
    return x[:, :1].clamp(-limit, limit)


def _aligned(x: Tensor) -> Tensor:
    """Position 0 of x [B,T,D] no farther along the axis that sets it apart (from the mean of the others to
    it) than the farthest of the others: [B,1,D]. What it shares with them stays.
    """
    others = x[:, 1:]
    axis = torch.nn.functional.normalize(x[:, :1] - others.mean(1, keepdim=True), dim=-1)
    along = (x * axis).sum(-1, keepdim=True)
    beyond = (along[:, :1] - along[:, 1:].amax(1, keepdim=True)).clamp_min(0)
    capped: Tensor = x[:, :1] - beyond * axis
    return capped


def _drawn(x: Tensor) -> Tensor:
    """Position 0 of x [B,T,D] moved as far as `_aligned` moves it, along a drawn axis: a control, [B,1,D]."""
    axis = torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(0)).to(x)
    far = (x[:, :1] - _aligned(x)).norm(dim=-1, keepdim=True)
    moved: Tensor = x[:, :1] + far * axis / axis.norm()
    return moved


_CHANGES = {"norm": _shrunk, "coordinates": _capped, "direction": _aligned, "random": _drawn}


@contextmanager
def clamped(anatomy: Anatomy, layer: int, how: str = "norm") -> Iterator[None]:
    """Clamp the state of position 0 after `layer` while the block runs. Whole prompts only, no cached prefix.

    Raises UsageError when there is no such layer, or no such clamp.
    """
    anatomy.check_layer(layer)
    if how not in CLAMPS:
        raise UsageError(f"there is no clamp {how!r}; choose one of {', '.join(CLAMPS)}")
    change = _CHANGES[how]

    def clamp(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        x = first(output)
        if x.shape[1] < 2:
            return output
        changed = torch.cat([change(x), x[:, 1:]], dim=1)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with hooks(anatomy.blocks[layer].layer.register_forward_hook(clamp)):
        yield


def locate_sinks(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank heads by sink score. The facts compare with the fair share, and say how much of the excess is left
    when position 0 is clamped after `layer` (default: where the norm ratio jumps most); `how` says which
    clamp.
    """
    scores, ratios = sink_scores(anatomy, cases), norm_ratios(anatomy, cases)
    growth = (ratios[1:] / ratios[:-1].clamp_min(1e-12))[: max(anatomy.layers - 1, 1)]
    jump = int(growth.argmax())  # a clamp after the last layer would reach no attention
    layer = anatomy.check_layer(jump if options.layer is None else options.layer)
    with clamped(anatomy, layer, options.how or "norm"):
        after = sink_scores(anatomy, cases)
    fair = fair_share(cases)
    later = slice(layer + 1, None)
    excess = (scores[later] - fair).clamp_min(0).sum()
    left = (after[later] - fair).clamp_min(0).sum()
    columns = tuple(f"H{i}" for i in range(anatomy.heads))
    names = layer_names(anatomy.layers)
    return Finding(
        "sinks",
        "mean attention to position 0",
        ranked(places("head", scores), options.top),
        {
            "prompts": len(cases),
            "fair share": fair,
            "heads above 0.3": int((scores > 0.3).sum()),
            "share of heads above 0.3": float((scores > 0.3).float().mean()),
            "largest norm ratio": float(ratios.max()),
            "clamped after": f"L{layer}",
            "excess removed by the clamp": float(1 - left / excess) if float(excess) > 0 else 0.0,
        },
        (
            Grid("Sink score", names, columns, scores),
            Grid("Sink score with the clamp", names, columns, after),
            Grid("Norm ratio of position 0", ("embed", *names), ("ratio",), ratios[:, None]),
        ),
        {"scores": scores, "clamped": after},
        anatomy.fingerprint,
    )
