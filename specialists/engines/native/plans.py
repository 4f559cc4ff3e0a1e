"""Steering vectors and heads as the native engine takes them: one plan a request."""

from __future__ import annotations

import ctypes as C
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....kernels.steer import KINDS, SteerTables
from ....router.steer.vector import SteeringVector
from ....store.errors import UsageError
from ..base import Head
from . import library as lib
from .model import NativeModel, Plan


def plan_of(model: NativeModel, vectors: Sequence[SteeringVector], heads: Sequence[Head] = ()) -> Plan | None:
    """Return the plan of a request; None if nothing acts and nothing is read.

    Raises:
        UsageError: a layer does not exist, or a vector or head has another width than the model.
    """
    if not vectors and not heads:
        return None
    kept: list[Tensor] = []
    entries = (lib.Entry * len(vectors))(*[_entry(model, one, kept) for one in vectors])
    rows = (lib.HeadEntry * len(heads))(*_heads(model, heads, kept))
    number = C.c_int32()
    code = lib.library().ph_plan_new(
        model.handle, entries, len(vectors), rows, len(heads), C.byref(number)
    )  # fmt: skip
    lib.check(code)
    plan = Plan(model, number.value, "ph_plan_free")
    plan.heads = len(heads)
    return plan


def _pointer(values: Tensor, kept: list[Tensor]) -> int:
    kept.append(values.detach().cpu().float().contiguous())
    return kept[-1].data_ptr()


def _entry(model: NativeModel, one: SteeringVector, kept: list[Tensor]) -> Any:
    """One vector, put through the tables that define its meaning."""
    _check(model, f"steering vector {one.name!r}", one.layer, one.vector)
    reader, gate = one.encoder, one.gate
    tables = SteerTables.empty(2, model.config.hidden_size)
    tables.put(
        1,
        one.kind,
        one.vector,
        one.coefficient,
        reader.weight if reader else None,
        reader.bias if reader else 0.0,
        reader.threshold if reader else 0.0,
    )
    return lib.Entry(
        kind=KINDS[one.kind],
        layer=one.layer,
        in_prompt=one.scope != "generation",
        in_generation=one.scope != "prompt",
        gate_layer=-1 if gate is None else gate.layer,
        coefficient=float(tables.coefficient[1]),
        relative=int(tables.relative[1]),
        keep_norm=int(tables.keep_norm[1]),
        reader_bias=float(tables.reader_bias[1]),
        reader_threshold=float(tables.reader_threshold[1]),
        gate_bias=0.0 if gate is None else float(gate.bias),
        gate_threshold=0.0 if gate is None else float(gate.threshold),
        vector=_pointer(tables.vector[1], kept),
        reader=_pointer(tables.reader[1], kept),
        gate=None if gate is None else _pointer(gate.weight, kept),
    )


def _heads(model: NativeModel, heads: Sequence[Head], kept: list[Tensor]) -> list[Any]:
    """All heads, their weights in one tensor: a request may bring hundreds, and waits for this."""
    for one in heads:
        _check(model, f"head {one.name!r}", one.layer, one.weight)
    if not heads:
        return []
    weights = torch.stack([one.weight.float() for one in heads])
    if not bool(torch.isfinite(weights).all()):
        wrong = next(one.name for one in heads if not bool(torch.isfinite(one.weight).all()))
        raise UsageError(f"head {wrong!r} holds numbers that are not finite; make it again")
    first, size = _pointer(weights, kept), 4 * model.config.hidden_size
    return [
        lib.HeadEntry(layer=one.layer, bias=float(one.bias), weight=first + at * size)
        for at, one in enumerate(heads)
    ]


def _check(model: NativeModel, name: str, layer: int, weight: Tensor) -> None:
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    if not 0 <= layer < layers:
        raise UsageError(
            f"{name} is for layer {layer}, which does not exist; this model has layers 0 to {layers - 1}"
        )
    if weight.shape != (width,):
        raise UsageError(
            f"{name} is {weight.numel()} wide, the model {width}; use a vector made for this model"
        )
