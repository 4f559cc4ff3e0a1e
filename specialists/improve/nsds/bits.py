"""Bits for layers under a budget, and what few bits do to a model's loss, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ....kernels.quant import WIDTHS, dequantize
from ....store.errors import UsageError
from ..groups import Method, encode

Loss = Callable[[], float]


def allocate(scores: Sequence[float] | Tensor, budget: float, high: int = 4, low: int = 2) -> list[int]:
    """Give the highest scores `high` bits and the others `low`, at most `budget` on average: the first
    floor(L (budget - low) / (high - low)) layers; ties go to the earlier layer.

    Raises UsageError for bits that do not exist, or a budget outside of them.
    """
    if high not in WIDTHS or low not in WIDTHS or not low < high or not low <= budget <= high:
        raise UsageError(
            f"budget {budget} with {high} and {low} bits: bits are two of {WIDTHS}, the budget lies between"
        )
    order = torch.argsort(torch.as_tensor(scores, dtype=torch.float64), descending=True, stable=True)
    many = int(len(order) * (budget - low) / (high - low) + 1e-9)
    found = [low] * len(order)
    for layer in order[:many].tolist():
        found[layer] = high
    return found


class Rounded:
    """A model whose layers can be given bits in place and their own weights back.

    Rounded weights of each layer are kept once made: memory of `widths` more models.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[Sequence[str]], group: int = 64, method: Method = "nearest"
    ) -> None:
        """`layers`: the names of each layer's matrices (`Parts.names`)."""
        self.model, self.layers, self.group, self.method = model, layers, group, method
        self._own: Mapping[str, Tensor] = dict(model.named_parameters())
        self._exact = {n: self._own[n].detach().clone() for names in layers for n in names}
        self._made: dict[tuple[int, int], dict[str, Tensor]] = {}

    @torch.no_grad()
    def give(self, bits: Sequence[int | None]) -> None:
        """Give each layer its bits; None is its own weights."""
        for layer, (names, wanted) in enumerate(zip(self.layers, bits, strict=True)):
            made = self._exact if wanted is None else self._rounded(layer, wanted)
            for name in names:
                self._own[name].copy_(made[name])

    def _rounded(self, layer: int, bits: int) -> Mapping[str, Tensor]:
        key = (layer, bits)
        if key not in self._made:
            self._made[key] = {
                name: _as_parameter(self.model, name, self._exact[name], bits, self.group, self.method)
                for name in self.layers[layer]
            }
        return self._made[key]

    def loss(self, bits: Sequence[int | None], loss: Loss) -> float:
        """Return the loss under `bits`; the model has its own weights again afterwards."""
        self.give(bits)
        try:
            return loss()
        finally:
            self.give([None] * len(self.layers))


def _as_parameter(
    model: nn.Module, name: str, weight: Tensor, bits: int, group: int, method: Method
) -> Tensor:
    """Round a weight in groups of inputs; GPT-2 keeps its maps as [in, out]."""
    owner: Any = model.get_submodule(name.rpartition(".")[0])
    turned = hasattr(owner, "nf")
    found = dequantize(encode(weight.T if turned else weight, bits, group, method))
    return found.T if turned else found


def leave_one(rounded: Rounded, loss: Loss, low: int = 2, rest: int | None = None) -> list[float]:
    """How much the loss rises when only one layer gets `low` bits, the others `rest` (None: their own)."""
    count = len(rounded.layers)
    start = rounded.loss([rest] * count, loss)
    return [
        rounded.loss([low if i == layer else rest for i in range(count)], loss) - start
        for layer in range(count)
    ]


def greedy(rounded: Rounded, loss: Loss, budget: float, high: int = 4, low: int = 2) -> list[int]:
    """The oracle: from `high` everywhere, take bits from the layer that costs the least loss, one by one.

    Needs data, and about L^2 / 2 evaluations.
    """
    count = len(rounded.layers)
    wanted = allocate([0.0] * count, budget, high, low).count(high)
    found: list[int] = [high] * count
    while found.count(high) > wanted:
        trials = {}
        for layer in (i for i in range(count) if found[i] == high):
            trial = [low if i == layer else bits for i, bits in enumerate(found)]
            trials[layer] = rounded.loss(trial, loss)
        found[min(trials, key=lambda i: trials[i])] = low
    return found
