"""Steering vectors of every kind, drawn from seeds, for the plugin's tests that need no vLLM."""

import torch
from torch import Tensor

from pilothouse.router.steer.vector import Encoder, Gate, SteeringVector
from pilothouse.store.records import SteeringKind, SteeringScope

WIDTH, LAYERS, TOKENS = 16, 3, 40


def direction(seed: int) -> Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


def vector(
    kind: SteeringKind = "add",
    scope: SteeringScope = "both",
    layer: int = 0,
    seed: int = 1,
    gate: bool = False,
) -> SteeringVector:
    clamps = kind == "clamp_feature"
    encoder = Encoder(direction(seed + 1), 0.1, 0.2) if clamps else None
    at = Gate(max(layer - 1, 0), direction(seed + 2), 0.1, 0.2) if gate else None
    name = f"{kind}-{seed}"
    return SteeringVector(name, kind, layer, 1.5, scope, direction(seed), 3 if clamps else None, at, encoder)
