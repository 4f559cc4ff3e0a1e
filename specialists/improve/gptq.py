"""GPTQ: round columns one after another, each error spread over the columns that are still to come.

Frantar et al. (2023), the data-aware comparison to what needs no data. Layers are done from the first to the
last, so that each is calibrated on what the rounded ones before it give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.quant import Quantized, dequantize, quantize
from ...router.taps import decoder_layers, unwrapped
from .groups import halved

DAMP = 0.01  # of the mean diagonal, added to it


@torch.no_grad()
def gptq(w: Tensor, second: Tensor, bits: int, group: int, damp: float = DAMP) -> Quantized:
    """Quantize w [O,I] for inputs of second moment `second` [I,I] (sum of x x^T, any scale).

    Scales are taken when a group's first column is reached, from the weights as they are by then. With a
    diagonal `second` the codes are those of rounding to nearest. Raises ValueError as
    `kernels.quant.quantize`, and when shapes do not fit.
    """
    columns = w.shape[1]
    if second.shape != (columns, columns):
        raise ValueError(f"the second moment is {list(second.shape)}, the weights have {columns} columns")
    rest, inverse = w.double().clone(), _inverse_root(second, damp)
    codes = torch.zeros(w.shape, dtype=torch.int8)
    scales = torch.ones(w.shape[0], -(-columns // group))
    top = 2 ** (bits - 1) - 1
    for column in range(columns):
        if column % group == 0:
            block = rest[:, column : column + group].float()
            scales[:, column // group] = halved(block, quantize(block, bits, group)).scales[:, 0]
        scale = scales[:, column // group].double()
        code = torch.round(rest[:, column] / scale).clamp(-top, top)
        codes[:, column] = code.to(torch.int8)
        error = (rest[:, column] - code * scale) / inverse[column, column]
        rest[:, column + 1 :] -= error[:, None] * inverse[column, column + 1 :]
    return Quantized(codes, scales, bits, group)


def _inverse_root(second: Tensor, damp: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped second moment; inputs never seen count as 1."""
    h = second.double().clone()
    diagonal = h.diagonal()
    diagonal[diagonal == 0] = 1
    diagonal += damp * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor


@torch.no_grad()
def calibrate(
    model: nn.Module, rows: Sequence[Tensor], bits: Mapping[str, int], group: int
) -> dict[str, Quantized]:
    """Return GPTQ codes for the linear maps named in `bits` (parameter names), calibrated on token rows
    [B,T].

    The model's weights are rounded while this runs and given back. Costs two passes over `rows` a layer.
    """
    found: dict[str, Quantized] = {}
    kept: dict[str, Tensor] = {}
    try:
        for maps in _by_layer(model, bits):
            moments = _moments(model, maps, rows)
            for name, module in maps.items():
                found[name] = gptq(module.weight, moments[name], bits[name], group)
                kept[name] = module.weight.detach().clone()
                module.weight.copy_(dequantize(found[name]))
    finally:
        for name, weight in kept.items():
            model.get_parameter(name).copy_(weight)
    return found


def _by_layer(model: nn.Module, bits: Mapping[str, int]) -> list[dict[str, Any]]:
    """The maps of each layer by the names of their weights."""
    prefix = {id(module): name for name, module in unwrapped(model).named_modules()}
    layers = []
    for layer in decoder_layers(model):
        maps: dict[str, Any] = {}
        for inner, module in layer.named_modules():
            name = f"{prefix[id(layer)]}.{inner}.weight"
            if isinstance(module, nn.Linear) and name in bits:
                maps[name] = module
        layers.append(maps)
    return layers


def _moments(model: nn.Module, maps: Mapping[str, nn.Module], rows: Sequence[Tensor]) -> dict[str, Tensor]:
    """Sum of x x^T over all tokens that enter each map, [I,I] float64."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any) -> None:
            x = inputs[0].detach().flatten(0, -2).double()
            found[name] = found[name] + x.T @ x if name in found else x.T @ x

        return hook

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in maps.items()]
    try:
        for row in rows:
            model(row)
    finally:
        for handle in handles:
            handle.remove()
    return found
