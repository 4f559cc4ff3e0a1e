"""One forward pass, taken apart: what every head, neuron and block wrote, and that it adds up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..checks import finite
from .anatomy import Anatomy, Block, bias_of, eager_attention, first, hooks, matrix_of

TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Run:
    """One prompt of T tokens through L layers, float32.

    `stream` [L+1,T,D]: before layer 0, then after each. `attention`, `mlp` [L,T,D]: what each half added.
    `mixed` [L,T,H*d]: the heads' outputs before the output projection. `neurons` [L,T,F]. `read` [L,T,D]:
    what attention reads, after its norm. `attention_out`, `mlp_out` [L,T,D]: before a norm that follows, if
    any. `logits` [T,V] as the model gives them. `weights` [L,H,T,T]: attention, where asked for.
    """

    ids: Tensor
    stream: Tensor
    attention: Tensor
    mlp: Tensor
    mixed: Tensor
    neurons: Tensor
    read: Tensor
    attention_out: Tensor
    mlp_out: Tensor
    logits: Tensor
    weights: Tensor | None = None
    besides: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Length T."""
        return self.stream.shape[1]


def prompt_row(ids: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """Return token ids as [1,T]; raises UsageError for an empty prompt."""
    row = torch.as_tensor(ids, dtype=torch.long, device=device).reshape(1, -1)
    if row.shape[1] == 0:
        raise UsageError("the prompt has no tokens; give text with at least one")
    return row


def device_of(anatomy: Anatomy) -> torch.device:
    """Where the model's weights are."""
    return torch.device(next(anatomy.model.parameters()).device)


@torch.no_grad()
def record(
    anatomy: Anatomy, ids: Sequence[int] | Tensor, *, weights: bool = False, check: bool = True
) -> Run:
    """Run a prompt [T] and keep what every part wrote; `weights` asks for attention too. Under edits (see
    `edit.record_edited`) sums need not hold, and are not checked.

    Raises UsageError when the parts do not add up to the stream (a kind with something else in its layers, an
    adapter that is not merged) or a state is not finite.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in _SITES}
    row = prompt_row(ids, device_of(anatomy))
    handles = [handle for block in anatomy.blocks for handle in _watch(block, kept, weights)]
    with hooks(*handles):
        if weights:
            with eager_attention(anatomy.model):
                logits = anatomy.model(row).logits[0]
        else:
            logits = anatomy.model(row).logits[0]
    stacked = {name: torch.stack(parts) for name, parts in kept.items() if parts}
    stream = torch.cat([stacked.pop("start")[:1], stacked.pop("end")])
    run = Run(row[0], finite("the residual stream", stream), logits=logits.float(), **stacked)
    if check:
        _adds_up(anatomy, run)
    return run


_SITES = (
    "start",
    "end",
    "attention",
    "mlp",
    "mixed",
    "neurons",
    "read",
    "attention_out",
    "mlp_out",
    "weights",
    "besides",
)


def _watch(block: Block, kept: dict[str, list[Tensor]], weights: bool) -> list[Any]:
    def keep_input(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, inputs: kept[name].append(inputs[0][0].float())

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: kept[name].append(first(output)[0].float())

    def keep_weights(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, tuple) or len(output) < 2 or output[1] is None:
            raise UsageError(
                f"{type(block.attention).__name__} gave no attention weights; load the model eager"
            )
        kept["weights"].append(output[1][0].float())

    handles = [
        block.before.register_forward_pre_hook(keep_input("start")),
        block.before.register_forward_hook(keep("read")),
        block.mix.register_forward_pre_hook(keep_input("mixed")),
        block.mix.register_forward_hook(keep("attention_out")),
        (block.attention_norm or block.mix).register_forward_hook(keep("attention")),
        block.down.register_forward_pre_hook(keep_input("neurons")),
        block.down.register_forward_hook(keep("mlp_out")),
        (block.mlp_norm or block.down).register_forward_hook(keep("mlp")),
        block.layer.register_forward_hook(keep("end")),
    ]
    if block.besides is not None:
        handles.append(block.besides.register_forward_hook(keep("besides")))
    return handles + ([block.attention.register_forward_hook(keep_weights)] if weights else [])


def _adds_up(anatomy: Anatomy, run: Run) -> None:
    """Raises UsageError when a part of the model writes something we do not see."""
    for layer, block in enumerate(anatomy.blocks):
        heads = linear(block.mix, run.mixed[layer])
        neurons = linear(block.down, run.neurons[layer])
        besides = 0 if run.besides is None else run.besides[layer]
        sums = {
            "the halves of the layer": (
                run.stream[layer + 1],
                run.stream[layer] + run.attention[layer] + run.mlp[layer] + besides,
            ),
            "the heads": (run.attention_out[layer], heads),
            "the neurons": (run.mlp_out[layer], neurons),
        }
        for what, (wanted, found) in sums.items():
            off = float((wanted - found).norm() / wanted.norm().clamp_min(1e-6))
            if not off <= _tolerance(anatomy):
                raise UsageError(
                    f"in layer {layer}, {what} miss the sum by {off:.1%}: this model writes to its stream in "
                    "a "
                    "way that is not known here; merge adapters into the weights first"
                )


def _tolerance(anatomy: Anatomy) -> float:
    """Half precision rounds each part."""
    return TOLERANCE if next(anatomy.model.parameters()).dtype == torch.float32 else 0.05


def linear(module: nn.Module, x: Tensor) -> Tensor:
    """`module` on x [...,in] in float32."""
    bias = bias_of(module)
    y = x @ matrix_of(module)
    return y if bias is None else y + bias
