"""Gradient attribution: activation times gradient of the answer, for heads, neurons and states.

With `steps` > 1 the gradient is averaged on the way from zero embeddings to the prompt's (integrated
gradients, Sundararajan et al., 2017, with the embedding as the path).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from .anatomy import Anatomy, first, hooks, unflatten
from .case import Case, need
from .finding import Finding, Grid, layer_names, mean_of, ranked
from .options import Options
from .place import Place
from .run import device_of, prompt_row

SITES = ("mixed", "neurons", "stream")


def products(anatomy: Anatomy, case: Case, sites: Sequence[str] = SITES, steps: int = 1) -> dict[str, Tensor]:
    """Return activation x gradient by site: `mixed` [L,T,H*d], `neurons` [L,T,F], `stream` [L,T,D] (after
    each layer). The gradient is that of `case.measure` at the last token.
    """
    if steps < 1:
        raise UsageError(f"steps is {steps}; give at least 1")
    total: dict[str, list[Tensor]] = {}
    acts: dict[str, list[Tensor]] = {}
    for step in range(1, steps + 1):
        acts, gradients = _pass(anatomy, case, sites, step / steps)
        for site in sites:
            now = gradients[site]
            total[site] = [a + b for a, b in zip(total[site], now, strict=True)] if site in total else now
    return {
        site: torch.stack([a * g / steps for a, g in zip(acts[site], total[site], strict=True)])
        for site in sites
    }


def _pass(
    anatomy: Anatomy, case: Case, sites: Sequence[str], share: float
) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]]]:
    kept: dict[str, list[Tensor]] = {site: [] for site in sites}
    embedding = anatomy.model.get_input_embeddings()
    with torch.enable_grad(), hooks(*_keepers(anatomy, kept), _start(embedding, share)):
        logits = anatomy.model(prompt_row(case.ids, device_of(anatomy))).logits[0, -1].float()
        every = [x for site in sites for x in kept[site]]
        gradients = torch.autograd.grad(case.measure(logits), every, allow_unused=True)
    values = iter(torch.zeros_like(x) if g is None else g for x, g in zip(every, gradients, strict=True))
    found = {site: [next(values)[0].float() for _ in kept[site]] for site in sites}
    return {site: [x.detach()[0].float() for x in kept[site]] for site in sites}, found


def _start(embedding: nn.Module, share: float) -> Any:
    """Begin the graph at the embedding: no weight needs a gradient."""

    def begin(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return (output.detach() * share).requires_grad_()

    return embedding.register_forward_hook(begin)


def _keepers(anatomy: Anatomy, kept: dict[str, list[Tensor]]) -> list[Any]:
    def take(site: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, inputs: kept[site].append(inputs[0])

    handles = []
    for block in anatomy.blocks:
        if "mixed" in kept:
            handles.append(block.mix.register_forward_pre_hook(take("mixed")))
        if "neurons" in kept:
            handles.append(block.down.register_forward_pre_hook(take("neurons")))
        if "stream" in kept:
            handles.append(
                block.layer.register_forward_hook(lambda _m, _i, output: kept["stream"].append(first(output)))
            )
    return handles


def neuron_gradients(anatomy: Anatomy, case: Case, steps: int = 1) -> Tensor:
    """Return activation x gradient of every neuron: [L,T,F]."""
    return products(anatomy, case, ("neurons",), steps)["neurons"]


def head_gradients(anatomy: Anatomy, case: Case, steps: int = 1) -> Tensor:
    """Return activation x gradient of every head, summed over its dimensions: [L,T,H]."""
    mixed = products(anatomy, case, ("mixed",), steps)["mixed"]
    return torch.sum(unflatten(mixed, -1, (anatomy.heads, anatomy.head_size)), -1)


def locate_gradient(anatomy: Anatomy, cases: Sequence[Case], options: Options) -> Finding:
    """Rank `kind` = neurons (default), heads or states by mean activation x gradient; `how` = integrated
    takes 16 steps from zero embeddings.
    """
    need(cases, "")
    kind = options.kind or "neurons"
    if kind not in ("neurons", "heads", "states"):
        raise UsageError(f"kind {kind!r} is unknown here; choose neurons, heads or states")
    steps = 16 if options.how == "integrated" else 1
    every = [products(anatomy, case, SITES, steps) for case in cases]
    maps = [one["stream"].sum(-1) for one in every]
    columns = tuple(f"{i} {text}" for i, text in enumerate(cases[0].words()))
    grid = Grid(
        "Activation x gradient of the stream (first prompt)", layer_names(anatomy.layers), columns, maps[0]
    )
    if kind == "states":
        places = {
            Place("residual", layer, -1, at): float(maps[0][layer, at])
            for layer in range(anatomy.layers)
            for at in range(maps[0].shape[1])
        }
    else:
        places = _unit_scores(anatomy, every, kind)
    return Finding(
        "gradient",
        "activation x gradient" + (" (integrated)" if steps > 1 else ""),
        ranked(places, options.top),
        {"prompts": len(cases), "kind": kind},
        (grid,),
        fingerprint=anatomy.fingerprint,
    )


def _unit_scores(anatomy: Anatomy, every: Sequence[dict[str, Tensor]], kind: str) -> dict[Place, float]:
    if kind == "neurons":
        scores = mean_of([one["neurons"].sum(1) for one in every])
    else:
        size = (anatomy.heads, anatomy.head_size)
        scores = mean_of([unflatten(one["mixed"], -1, size).sum((1, -1)) for one in every])
    name = "neuron" if kind == "neurons" else "head"
    return {
        Place(name, layer, unit): value  # type: ignore[arg-type]
        for layer, row in enumerate(scores.tolist())
        for unit, value in enumerate(row)
    }
