"""CoFiTune's fine level: how much each unit matters for what a model can already do, and the mask made of it.

Zhang et al., 'Balancing Speciality and Versatility' (2024). Gates of one stand on attention heads, on the
up-projection's outputs and on the feed-forward's outputs. Each batch is read twice under dropout; a unit is
important where its gate changes the divergence between the two readings. The released code sums signed
gradients; the absolute value per batch is a switch. It also tiles the mask along the flattened weight, which
scrambles it: here a unit masks its own row. Adam cancels a constant factor of the gradient, so a mask on the
update is offered beside the published one on the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..adapters import linear_maps
from .distill import student_pass
from .finetune import Row, collate
from .finetune_full import DOWN, QKV, UP, _is

Mode = Literal["gradient", "update"]
Control = Literal["importance", "shuffled", "constant", "zero"]
DROPOUT, WEIGHT = 0.003, 0.1


@dataclass(eq=False)
class Gates:
    """Gates of one on a model's units, by the name of the linear map that makes (for heads: reads) them."""

    model: PreTrainedModel
    values: dict[str, Tensor] = field(default_factory=dict)
    dropout: float = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        for name, module in linear_maps(self.model).items():
            last = name.rsplit(".", 1)[-1]
            if _is(name, "mha") and last not in QKV:
                heads = int(self.model.config.num_attention_heads)
                self.values[name] = torch.ones(heads, requires_grad=True)
            elif _is(name, "ffn") and last in (*UP, *DOWN):
                width = int(cast(Tensor, module.weight).shape[1 if isinstance(module, Conv1D) else 0])
                self.values[name] = torch.ones(width, requires_grad=True)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the gates (and dropout beside them) act in forward passes inside."""
        maps, handles = linear_maps(self.model), []
        for name, gate in self.values.items():
            if _is(name, "mha"):
                handles.append(maps[name].register_forward_pre_hook(self._heads(gate)))
            else:
                handles.append(maps[name].register_forward_hook(self._units(gate)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _drop(self, x: Tensor) -> Tensor:
        if not self.dropout:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.dropout
        return x * kept / (1 - self.dropout)

    def _heads(self, gate: Tensor) -> Callable[..., Any]:
        def act(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = inputs[0]
            split = x.reshape(*x.shape[:-1], len(gate), x.shape[-1] // len(gate))
            return (self._drop((split * gate[:, None]).flatten(-2)), *inputs[1:])

        return act

    def _units(self, gate: Tensor) -> Callable[..., Any]:
        def act(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return self._drop(output * gate)

        return act


def importance(
    model: PreTrainedModel,
    rows: Sequence[Row],
    invocation: int,
    seed: int = 0,
    size: int = 16,
    absolute: bool = True,
) -> dict[str, Tensor]:
    """Return each gated map's unit importances in [0, 1): per layer z-scores of the mean gate gradient, then
    |tanh|.

    ``absolute`` takes the gradients' absolute values batch by batch, else signed ones are summed as released.
    """
    gates = Gates(model, dropout=DROPOUT, generator=torch.Generator().manual_seed(seed))
    summed = {n: torch.zeros_like(g) for n, g in gates.values.items()}
    was = {n: p.requires_grad for n, p in model.named_parameters()}
    model.requires_grad_(False)
    with gates.attached():
        for start in range(0, len(rows), size):
            batch = collate(rows[start : start + size], invocation, model.device)
            first, second = (student_pass(model, batch)[1].float() for _ in range(2))
            kl = F.kl_div(first.log_softmax(-1), second.log_softmax(-1), log_target=True, reduction="sum")
            found = torch.autograd.grad(WEIGHT * kl, list(gates.values.values()))
            for name, gradient in zip(gates.values, found, strict=True):
                summed[name] += gradient.abs() if absolute else gradient
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(was[name])
    return {name: _squashed(total) for name, total in summed.items()}


def _squashed(total: Tensor) -> Tensor:
    z = (total - total.mean()) / total.std(correction=0).clamp(min=1e-12)
    return z.tanh().abs()


def controlled(found: Mapping[str, Tensor], control: Control, seed: int = 0) -> dict[str, Tensor]:
    """Return importances, or a control with the same mean in every map: shuffled units, one constant; or
    zero.
    """
    generator = torch.Generator().manual_seed(seed)
    makers: dict[Control, Callable[[Tensor], Tensor]] = {
        "importance": lambda x: x,
        "shuffled": lambda x: x[torch.randperm(len(x), generator=generator)],
        "constant": lambda x: torch.full_like(x, float(x.mean())),
        "zero": torch.zeros_like,
    }
    return {name: makers[control](x) for name, x in found.items()}


class SoftMask:
    """Scales each unit's row of the chosen weights by (1 - importance): the gradient, or the whole update."""

    def __init__(
        self, model: PreTrainedModel, chosen: Sequence[str], found: Mapping[str, Tensor], mode: Mode
    ) -> None:
        self.mode, self.was = mode, dict[str, Tensor]()
        held, maps = dict(model.named_parameters()), linear_maps(model)
        self.masked: dict[str, tuple[nn.Parameter, Tensor]] = {}
        for name in chosen:
            unit = _units_of(name.removesuffix(".weight"), found, model)
            if unit is None:
                continue
            parameter = held[name]
            across = isinstance(maps[name.removesuffix(".weight")], Conv1D)
            rows = parameter.shape[1 if across else 0]
            factor = (1 - unit).repeat_interleave(rows // len(unit))
            self.masked[name] = (parameter, factor[None, :] if across else factor[:, None])

    def before(self) -> None:
        """Scale gradients, or remember the weights before the update."""
        for name, (parameter, factor) in self.masked.items():
            if self.mode == "gradient":
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
            else:
                self.was[name] = parameter.detach().clone()

    @torch.no_grad()
    def after(self) -> None:
        """Scale the update that was made."""
        for name, was in self.was.items():
            parameter, factor = self.masked[name]
            parameter.copy_(was + factor * (parameter - was))
        self.was = {}


def _units_of(name: str, found: Mapping[str, Tensor], model: PreTrainedModel) -> Tensor | None:
    """The importances of a linear map's output units: its own, or for q, k and v those of the heads.

    A key-value head matters as much as the most important query head that reads it. Fused maps get no mask.
    """
    if name in found and not _is(name, "mha"):
        return found[name]
    parent, _, last = name.rpartition(".")
    if last not in ("q_proj", "k_proj", "v_proj"):
        return None
    heads = next((x for n, x in found.items() if n.rpartition(".")[0] == parent and _is(n, "mha")), None)
    if heads is None or last == "q_proj":
        return heads
    shared = getattr(model.config, "num_key_value_heads", None) or len(heads)
    return heads.view(shared, -1).amax(1)
