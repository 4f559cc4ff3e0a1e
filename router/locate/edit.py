"""Change parts of a model during one forward pass, a different change in each row of the batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from .anatomy import Anatomy, hooks
from .place import Place
from .run import Run, device_of, record

ROWS = 32  # rows of one forward pass


@dataclass(frozen=True, eq=False)
class Edit:
    """At `place`: x becomes `scale` * x + `value`. Scale 0 and no value is an ablation; scale 1 and no value
    changes nothing. `value` has the place's width, and a row a token where the place is at all positions.

    A neuron or channel without a unit (-1) is all of its layer; `scale` may then be a vector, one each.
    """

    place: Place
    scale: float | Tensor = 0.0
    value: Tensor | None = None


def edited(anatomy: Anatomy, ids: Tensor, edits: Sequence[Sequence[Edit]]) -> Tensor:
    """Return logits [B,V] of the last token, row b of ids [B,T] (or [T], the same for all) under `edits[b]`.

    Raises UsageError when a place does not exist in this model or at this length.
    """
    device = device_of(anatomy)
    ids = ids.to(device)
    found = []
    with torch.no_grad():
        for start in range(0, len(edits), ROWS):
            some = edits[start : start + ROWS]
            rows = ids.expand(len(some), -1) if ids.ndim == 1 else ids[start : start + ROWS]
            with hooks(*_handles(anatomy, some, rows.shape[1])):
                found.append(anatomy.model(rows).logits[:, -1].float())
    return torch.cat(found)


def record_edited(
    anatomy: Anatomy, ids: Sequence[int] | Tensor, edits: Sequence[Edit], *, weights: bool = False
) -> Run:
    """Record a prompt [T] while `edits` hold."""
    tokens = len(ids)
    with hooks(*_handles(anatomy, [edits], tokens)):
        return record(anatomy, ids, weights=weights, check=False)


def only(anatomy: Anatomy, kept: Sequence[Place], layers: Sequence[int]) -> list[Edit]:
    """Edits that silence every neuron of `layers` but those in `kept`."""
    edits = []
    for layer in layers:
        mask = torch.zeros(anatomy.neurons)
        mask[[place.unit for place in kept if place.layer == layer]] = 1
        edits.append(Edit(Place("neuron", layer), mask))
    return edits


Work = list[tuple[int, Edit]]


def _handles(anatomy: Anatomy, edits: Sequence[Sequence[Edit]], tokens: int) -> list[Any]:
    work: dict[tuple[str, int], Work] = defaultdict(list)
    for row, some in enumerate(edits):
        for one in some:
            _check(anatomy, one.place, tokens)
            work[_SITE[one.place.kind], max(one.place.layer, 0)].append((row, one))
    return [_hook(anatomy, site, layer, some) for (site, layer), some in work.items()]


_SITE = {
    "head": "mixed",
    "channel": "mixed",
    "neuron": "neurons",
    "attention": "attention",
    "mlp": "mlp",
    "residual": "residual",
    "embedding": "embedding",
}


def _check(anatomy: Anatomy, place: Place, tokens: int) -> None:
    units = {
        "head": anatomy.heads,
        "neuron": anatomy.neurons,
        "channel": anatomy.heads * anatomy.head_size,
    }.get(place.kind, 0)
    if place.kind != "embedding":
        anatomy.check_layer(place.layer)
    whole = place.unit == -1 and place.kind in ("neuron", "channel")
    if units and not whole and not 0 <= place.unit < units:
        raise UsageError(f"{place.name} does not exist; this model has {units} units of that kind in a layer")
    if place.position >= tokens:
        raise UsageError(f"{place.name} does not exist in a prompt of {tokens} tokens")


def _hook(anatomy: Anatomy, site: str, layer: int, work: Work) -> Any:
    block = anatomy.blocks[layer]

    def before(_module: nn.Module, inputs: Any) -> Any:
        return (_changed(anatomy, inputs[0], work), *inputs[1:])

    def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (_changed(anatomy, output[0], work), *output[1:])
        return _changed(anatomy, output, work)

    modules: Mapping[str, nn.Module] = {
        "attention": block.attention_norm or block.mix,
        "mlp": block.mlp_norm or block.down,
        "residual": block.layer,
    }
    if site in modules:
        return modules[site].register_forward_hook(after)
    if site == "embedding":
        return block.layer.register_forward_pre_hook(_first_argument(before), with_kwargs=True)
    return (block.mix if site == "mixed" else block.down).register_forward_pre_hook(before)


def _first_argument(before: Callable[[nn.Module, Any], Any]) -> Callable[[nn.Module, Any, Any], Any]:
    """Layers take the stream as their first argument, by place or by the name `hidden_states`."""

    def hook(module: nn.Module, inputs: Any, named: Any) -> Any:
        if inputs:
            return before(module, inputs), named
        changed = before(module, (named["hidden_states"],))
        return inputs, {**named, "hidden_states": changed[0]}

    return hook


def _changed(anatomy: Anatomy, x: Tensor, work: Work) -> Tensor:
    y = x.clone()
    for row, one in work:
        place = one.place
        at = slice(None) if place.position < 0 else slice(place.position, place.position + 1)
        units = slice(None)
        if place.kind == "head":
            units = anatomy.head_columns(place.unit)
        elif place.kind in ("neuron", "channel") and place.unit >= 0:
            units = slice(place.unit, place.unit + 1)
        part = y[row, at, units]
        value = 0 if one.value is None else one.value.to(y).reshape(-1, part.shape[-1])
        scale = one.scale.to(y) if isinstance(one.scale, Tensor) else one.scale
        y[row, at, units] = scale * part + value
    return y


def value_at(anatomy: Anatomy, run: Run, place: Place) -> Tensor:
    """Return what `place` held in a run: [width], or [T, width] at all positions."""
    at: Any = slice(None) if place.position < 0 else place.position
    if place.kind == "embedding":
        return run.stream[0, at]
    whole = {
        "residual": run.stream[place.layer + 1],
        "attention": run.attention[place.layer],
        "mlp": run.mlp[place.layer],
        "head": run.mixed[place.layer],
        "channel": run.mixed[place.layer],
        "neuron": run.neurons[place.layer],
    }[place.kind]
    if place.kind == "head":
        return whole[at, anatomy.head_columns(place.unit)]
    if place.kind in ("channel", "neuron"):
        return whole[at, place.unit : place.unit + 1]
    return whole[at]
