"""Steering inside a Hugging Face forward pass: hooks on decoder layers, over kernels/steer.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ...kernels.steer import SteerTables, gated, steer
from ...store.errors import UsageError
from ...store.records import SteeringEntry, SteeringPlan
from ..fingerprint import require
from ..taps import decoder_layers, layer_at, stream
from .vector import SteeringVector

Phase = Literal["prompt", "generation"]


def planned(plan: SteeringPlan, vectors: dict[str, SteeringVector]) -> tuple[SteeringVector, ...]:
    """Return the vectors that a plan names, with the plan's coefficients. Raises UsageError when one is
    unknown.
    """
    missing = [entry.name for entry in plan.entries if entry.name not in vectors]
    if missing:
        raise UsageError(
            f"the plan names the vectors {missing}; this family has {sorted(vectors)}; fix the policy"
        )
    return tuple(_as_planned(vectors[entry.name], entry) for entry in plan.entries)


def _as_planned(vector: SteeringVector, entry: SteeringEntry) -> SteeringVector:
    """The vector itself where the plan changes nothing: an engine knows it again, and need not prepare it."""
    if (vector.coefficient, vector.scope) == (entry.coefficient, entry.scope):
        return vector
    return replace(vector, coefficient=entry.coefficient, scope=entry.scope)


class Steering:
    """Context manager: while it is open, forward passes of `model` are steered by `vectors`.

    `phase` says what the tokens of the coming forward passes are: a vector acts on them where its scope is
    that phase or `both`. `boundary` (None, or an index into the pass's T tokens) splits one pass instead:
    tokens before it are prompt, from it on generation. `plans` (None, or for each of the B rows the indices
    into `vectors` that steer it) lets requests of one batch differ. Vectors at one layer act in the order
    given. A token that no vector reaches keeps its bits.

    Raises UsageError when a vector's layer or width does not fit the model; ArtifactError when
    `fingerprint` is given and a vector was made for another model.
    """

    def __init__(
        self, model: nn.Module, vectors: Sequence[SteeringVector], *, fingerprint: str | None = None
    ) -> None:
        self.vectors = tuple(vectors)
        self.phase: Phase = "prompt"
        self.boundary: int | None = None
        self.plans: Sequence[Sequence[int]] | None = None
        self._layers = decoder_layers(model)
        self._handles: list[Any] = []
        self._open: dict[int, Tensor] = {}  # vector index -> which tokens [B*T] its gate lets through
        weight = next(model.parameters())
        for one in self.vectors:
            self._check(one, fingerprint)
        self._tables = {layer: self._table(layer, weight.device) for layer in {v.layer for v in self.vectors}}
        self._gates = {
            i: one.gate.weight.to(weight.device) for i, one in enumerate(self.vectors) if one.gate is not None
        }

    def _check(self, one: SteeringVector, fingerprint: str | None) -> None:
        layer_at(self._layers, one.layer)
        if fingerprint is not None:
            require(one.fingerprint, fingerprint, f"steering vector {one.name!r}")

    def _table(self, layer: int, device: torch.device) -> SteerTables:
        """Tables of one layer; vector i sits in row i + 1."""
        mine = [(i, one) for i, one in enumerate(self.vectors) if one.layer == layer]
        widths = {one.vector.numel() for _, one in mine}
        if len(widths) > 1:
            raise UsageError(f"the vectors at layer {layer} have widths {sorted(widths)}; use one model's")
        tables = SteerTables.empty(len(self.vectors) + 1, widths.pop(), device)
        for i, one in mine:
            reader = one.encoder
            tables.put(
                i + 1,
                one.kind,
                one.vector,
                one.coefficient,
                reader.weight if reader else None,
                reader.bias if reader else 0.0,
                reader.threshold if reader else 0.0,
            )
        return tables

    # -- which tokens ------------------------------------------------------------------------------------

    def _rows(self, index: int, batch: int, tokens: int, device: torch.device) -> Tensor | None:
        """Return row numbers [B*T] for vector `index`: its row where it acts, else 0; None for nowhere."""
        scope = self.vectors[index].scope
        if self.boundary is None and scope not in (self.phase, "both"):
            return None
        rows = torch.full((batch, tokens), index + 1, dtype=torch.long, device=device)
        if self.boundary is not None and scope != "both":
            cut = min(max(self.boundary, 0), tokens)
            rows[:, cut:] *= scope == "generation"
            rows[:, :cut] *= scope == "prompt"
        if self.plans is not None:
            if len(self.plans) != batch:
                raise UsageError(f"{len(self.plans)} steering plans for a batch of {batch}; give one a row")
            chosen = [index in plan for plan in self.plans]
            if not any(chosen):
                return None
            rows *= torch.tensor(chosen, device=device)[:, None]
        return rows.flatten()

    # -- hooks -------------------------------------------------------------------------------------------

    def _hook(self, layer: int) -> Callable[[nn.Module, Any, Any], Any]:
        gates = [i for i, one in enumerate(self.vectors) if one.gate is not None and one.gate.layer == layer]
        acting = [i for i, one in enumerate(self.vectors) if one.layer == layer]

        def act(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            x = stream(output)
            if acting and x.shape[-1] != self._tables[layer].vector.shape[1]:
                one = self.vectors[acting[0]]
                raise UsageError(
                    f"steering vector {one.name!r} is {one.vector.numel()} wide, the model {x.shape[-1]}; "
                    "use a vector made for this model"
                )
            flat = x.reshape(-1, x.shape[-1])
            for index in gates:
                self._read_gate(index, flat)
            steered = self._steered(layer, acting, x, flat)
            if steered is None:
                return None
            return (steered, *output[1:]) if isinstance(output, tuple) else steered

        return act

    def _read_gate(self, index: int, flat: Tensor) -> None:
        gate = self.vectors[index].gate
        assert gate is not None
        ones = torch.ones(flat.shape[0], dtype=torch.long, device=flat.device)
        self._open[index] = gated(ones, flat, self._gates[index], gate.bias, gate.threshold)

    def _steered(self, layer: int, acting: list[int], x: Tensor, flat: Tensor) -> Tensor | None:
        touched = False
        for index in acting:
            rows = self._rows(index, x.shape[0], x.shape[1], x.device)
            if rows is None:
                continue
            if index in self._gates:
                rows = rows * self._open[index]
            flat = steer(flat, self._tables[layer], rows)
            touched = True
        return flat.reshape(x.shape) if touched else None

    def __enter__(self) -> Steering:
        layers = {v.layer for v in self.vectors} | {v.gate.layer for v in self.vectors if v.gate is not None}
        self._handles = [self._layers[at].register_forward_hook(self._hook(at)) for at in sorted(layers)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._open = {}
