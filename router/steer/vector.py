"""Steering vectors: one intervention on the residual stream, with where, how strongly and when it acts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ...store.errors import ArtifactError, UsageError
from ...store.records import SteeringEntry, SteeringKind, SteeringScope
from ..checks import finite, vector
from ..files import head_field, read_json, read_tensors, sha256_of, write_json, write_tensors

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Gate:
    """A linear condition inside the forward pass: a token is steered where weight . x + bias >= threshold.

    `x` [D] is that same token's residual after decoder layer `layer`, before any steering at that layer.
    `threshold` is a logit. `name` is the probe or direction it came from.
    """

    layer: int
    weight: Tensor
    bias: float = 0.0
    threshold: float = 0.0
    name: str = "gate"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", vector("the gate's weight", self.weight.detach().cpu().float()))
        finite("the gate's bias and threshold", torch.tensor([float(self.bias), float(self.threshold)]))

    def head(self) -> dict[str, Any]:
        """Return every field but the weight, as plain values."""
        return {"layer": self.layer, "bias": self.bias, "threshold": self.threshold, "name": self.name}


@dataclass(frozen=True, eq=False)
class Encoder:
    """How `clamp_feature` measures its feature now: a = JumpReLU(weight . x + bias, threshold)."""

    weight: Tensor
    bias: float = 0.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", vector("the encoder's weight", self.weight.detach().cpu().float()))
        finite("the encoder's bias and threshold", torch.tensor([float(self.bias), float(self.threshold)]))


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """One intervention after decoder layer `layer`, on tokens in `scope`, where `gate` (if any) lets it.

    `vector` [D] float32 is v, `coefficient` is c:
    `add` x + c v; `project_out` x - c (x.u) u with u = v/|v| (c = 1 removes the direction); `scale`
    multiplies the part of x along u by c; `clamp_feature` sets the SAE feature `feature` (decoder row v,
    `encoder`) to c.
    Raises UsageError when a field breaks these rules.
    """

    name: str
    kind: SteeringKind
    layer: int
    coefficient: float
    scope: SteeringScope
    vector: Tensor
    feature: int | None = None
    gate: Gate | None = None
    encoder: Encoder | None = None
    fingerprint: str = ""
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", self.vector.detach().cpu().float())
        vector(f"steering vector {self.name!r}", self.vector)
        self._check_words()
        self._check_parts()

    def _check_words(self) -> None:
        for value, allowed in ((self.kind, get_args(SteeringKind)), (self.scope, get_args(SteeringScope))):
            if value not in allowed:
                raise UsageError(
                    f"steering vector {self.name!r} says {value!r}; use one of {', '.join(allowed)}"
                )
        finite(f"the coefficient of {self.name!r}", torch.tensor(float(self.coefficient)))
        if self.layer < 0 or not bool(self.vector.any()):
            raise UsageError(
                f"{self.name!r} acts at layer {self.layer} with norm {float(self.vector.norm()):g}: the "
                "layer is 0-based and the vector must not be zero; make it again"
            )

    def _check_parts(self) -> None:
        width = self.vector.numel()
        if self.kind == "clamp_feature" and (self.feature is None or self.encoder is None):
            raise UsageError(
                f"{self.name!r} clamps a feature and must carry its index and encoder; use clamp_feature()"
            )
        for part in (self.gate, self.encoder):
            if part is not None and part.weight.numel() != width:
                raise UsageError(
                    f"{self.name!r} is {width} wide, its gate or encoder {part.weight.numel()}; use one model"
                )
        if self.gate is not None and not 0 <= self.gate.layer <= self.layer:
            raise UsageError(
                f"{self.name!r} acts at layer {self.layer} but is gated at layer {self.gate.layer}; a gate "
                "must be read at the same layer or an earlier one"
            )

    def entry(self, reading: str, coefficient: float | None = None) -> SteeringEntry:
        """Return the row of a steering plan that applies this vector because `reading` chose it."""
        return SteeringEntry(
            name=self.name,
            kind=self.kind,
            layer=self.layer,
            coefficient=self.coefficient if coefficient is None else coefficient,
            scope=self.scope,
            reading=reading,
            gate=self.gate.name if self.gate else None,
            feature=self.feature,
            sha256=self.sha256,
        )

    def head(self) -> dict[str, Any]:
        """Return every field but the tensors, as plain values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "layer": self.layer,
            "coefficient": self.coefficient,
            "scope": self.scope,
            "feature": self.feature,
            "gate": self.gate.head() if self.gate else None,
            "encoder": {"bias": self.encoder.bias, "threshold": self.encoder.threshold}
            if self.encoder
            else None,
            "fingerprint": self.fingerprint,
            "meta": self.meta,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names on disk."""
        parts = {"gate": self.gate, "encoder": self.encoder}
        return {"vector": self.vector} | {name: part.weight for name, part in parts.items() if part}

    @cached_property
    def sha256(self) -> str:
        """Digest of everything in this vector that can change an answer or its story."""
        return sha256_of(self.head(), self.tensors())

    def save(self, folder: Path | str) -> None:
        """Write `vector.json` and `vector.safetensors` into `folder`."""
        write_tensors(Path(folder) / "vector.safetensors", self.tensors())
        write_json(Path(folder) / "vector.json", self.head())

    @classmethod
    def load(cls, folder: Path | str) -> SteeringVector:
        """Read a vector back. Raises ArtifactError when a file is missing, damaged or of another format."""
        path = Path(folder) / "vector.json"
        head = read_json(path)
        if head.get("format") != FORMAT:
            raise ArtifactError(
                f"{path} has format {head.get('format')!r}; this version reads {FORMAT}; make it again"
            )
        parts = {name: head_field(head, name, path) for name in ("gate", "encoder")}
        wanted = ("vector", *(name for name, value in parts.items() if value))
        tensors = read_tensors(Path(folder) / "vector.safetensors", wanted)
        names = ("name", "kind", "layer", "coefficient", "scope", "feature", "fingerprint", "meta")
        fields = {name: head_field(head, name, path) for name in names}
        try:
            gate = Gate(weight=tensors["gate"], **parts["gate"]) if parts["gate"] else None
            encoder = Encoder(weight=tensors["encoder"], **parts["encoder"]) if parts["encoder"] else None
            return cls(vector=tensors["vector"], gate=gate, encoder=encoder, **fields)
        except (UsageError, TypeError) as error:
            raise ArtifactError(f"{path} is no steering vector: {error}; restore the file") from error
