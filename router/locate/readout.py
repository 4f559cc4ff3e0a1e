"""Read a vector in words with the final norm's variance held fixed, so that parts add up to the whole.

The final norm divides by the spread of the whole final state. With that one number taken from the true state,
the norm is linear, and the logits of all parts sum to the model's logits (Yu and Ananiadou, 'Neuron-Level
Knowledge Attribution in Large Language Models', EMNLP 2024).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from .anatomy import Anatomy, bias_of
from .run import Run

CHUNK = 1 << 24  # logits held at once


class FixedNorm:
    """A norm with the statistics of reference states [T,D] held fixed: a linear map plus a constant.

    Which formula the module computes (with or without a mean, gain w or 1 + w) is found by trying. Raises
    UsageError when none gives what the module gives.
    """

    def __init__(self, module: nn.Module, reference: Tensor) -> None:
        x = reference.float()
        inner: Any = module
        weight = torch.as_tensor(inner.weight).detach().float()
        eps = float(getattr(inner, "eps", getattr(inner, "variance_epsilon", 1e-6)))
        bias = bias_of(module)
        with torch.no_grad():
            wanted = module(
                reference.to(weight.dtype)
                if inner.weight.dtype == weight.dtype
                else reference.to(inner.weight.dtype)
            ).float()
        for centred in (isinstance(module, nn.LayerNorm), not isinstance(module, nn.LayerNorm)):
            spread = x - x.mean(-1, keepdim=True) if centred else x
            scale = (spread.square().mean(-1, keepdim=True) + eps).rsqrt()
            for gain in (weight, 1 + weight):
                found = spread * scale * gain + (0 if bias is None else bias)
                if torch.allclose(
                    found, wanted, rtol=2e-2, atol=1e-3 * float(wanted.abs().max().clamp_min(1))
                ):
                    self.centred, self.scale, self.gain = centred, scale, gain
                    self.constant = torch.zeros_like(weight) if bias is None else bias
                    return
        raise UsageError(
            f"{type(module).__name__} is neither RMSNorm nor LayerNorm; its reading cannot be fixed"
        )

    def __call__(self, v: Tensor, at: int | None = None) -> Tensor:
        """The linear part: v [...,D] -> [...,D], with the statistics of position `at` (None: of each row)."""
        scale = self.scale if at is None else self.scale[at]
        return (v - v.mean(-1, keepdim=True) if self.centred else v) * scale * self.gain


class Readout:
    """Logits of any vector [...,D] at one position of a run, through the norm as fixed there."""

    def __init__(self, anatomy: Anatomy, run: Run, position: int = -1) -> None:
        self.norm = FixedNorm(anatomy.norm, run.stream[-1, position][None])
        self.unembed = anatomy.unembed
        self.softcap = anatomy.softcap
        head_bias = bias_of(anatomy.head)
        self.constant = self.norm.constant @ self.unembed + (0 if head_bias is None else head_bias)

    def logits(self, v: Tensor) -> Tensor:
        """The share of the logits that vector v brings: [...,D] -> [...,V]; linear in v, biases left out."""
        return self.norm(v, 0) @ self.unembed

    def whole(self, v: Tensor) -> Tensor:
        """Logits [...,V] were v the whole final state: biases and the cap included."""
        return self.capped(self.logits(v) + self.constant)

    def capped(self, logits: Tensor) -> Tensor:
        """Apply the model's cap of logits, if it has one."""
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def log_probability(self, v: Tensor, token: int) -> Tensor:
        """log softmax of the whole at `token`, [...]; computed in pieces, so that memory stays bounded."""
        flat = v.reshape(-1, v.shape[-1])
        step = max(1, CHUNK // self.unembed.shape[1])
        parts = [
            (logits[:, token] - logits.logsumexp(-1)) for logits in map(self.whole, torch.split(flat, step))
        ]
        return torch.cat(parts).reshape(v.shape[:-1])


def components(anatomy: Anatomy, run: Run, position: int = -1) -> dict[str, Tensor]:
    """Return the vectors [D] that the final state at `position` is the sum of, by name."""
    found = {"embed": run.stream[0, position]}
    for layer in range(anatomy.layers):
        found[f"L{layer}.attn"] = run.attention[layer, position]
        found[f"L{layer}.mlp"] = run.mlp[layer, position]
        if run.besides is not None:
            found[f"L{layer}.besides"] = run.besides[layer, position]
    return found


def written(anatomy: Anatomy, run: Run, layer: int, half: str, v: Tensor, position: int) -> Tensor:
    """What v [...,D], a share of what `half` ('attention' or 'mlp') of a layer computes, adds to the stream.

    It is v itself, but for kinds with a norm in between, whose variance is held fixed too.
    """
    block = anatomy.blocks[layer]
    norm = block.attention_norm if half == "attention" else block.mlp_norm
    if norm is None:
        return v
    whole = (run.attention_out if half == "attention" else run.mlp_out)[layer, position]
    return FixedNorm(norm, whole[None])(v, 0)
