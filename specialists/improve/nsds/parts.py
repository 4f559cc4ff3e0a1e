"""A decoder's matrices by what they do: read the residual stream (QK, up, gate), or write to it (OV,
down).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ....router.locate.anatomy import Anatomy, Block, matrix_of, named, unflatten
from ....router.taps import unwrapped
from ....store.errors import UsageError

UP = ("up_proj", "fc1", "dense_h_to_4h", "c_fc")


@dataclass(frozen=True, eq=False)
class Parts:
    """One layer's matrices [out, in] in float32: q [H*d, D], k and v [G*d, D], o [D, H*d], up and gate [F, D]
    (gate None where the kind has none), down [D, F]. `names` are the parameters that few bits would hold.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    up: Tensor
    gate: Tensor | None
    down: Tensor
    heads: int
    groups: int
    names: tuple[str, ...] = ()

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        """All of them, as methods that look at single matrices take them."""
        gate = () if self.gate is None else (self.gate,)
        return (self.q, self.k, self.v, self.o, self.up, *gate, self.down)

    def head_pairs(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """(W_Q, W_K, W_O, W_V) of every query head: [d,D], [d,D], [D,d], [d,D]; head h shares the keys and
        values of group h // (H / G).
        """
        size, share = self.q.shape[0] // self.heads, self.heads // self.groups
        q, k, v = (unflatten(one, 0, (-1, size)) for one in (self.q, self.k, self.v))
        o = unflatten(self.o, 1, (self.heads, size))
        return [(q[h], k[h // share], o[:, h], v[h // share]) for h in range(self.heads)]


def parts_of(model: nn.Module, *, gains: bool = False) -> list[Parts]:
    """Return the parts of every layer; `gains` multiplies what reads by the gain of the norm before it.

    Raises UsageError for a kind whose parts are not known.
    """
    anatomy = Anatomy.of(model)
    prefix = {id(module): name for name, module in unwrapped(model).named_modules()}
    return [_layer(anatomy, block, prefix[id(block.layer)], gains) for block in anatomy.blocks]


def unembedding(model: nn.Module) -> Tensor:
    """The matrix [V, D] that reads the last state, float32."""
    return Anatomy.of(model).unembed.T


@torch.no_grad()
def _layer(anatomy: Anatomy, block: Block, prefix: str, gains: bool) -> Parts:
    q, k, v = _attention(anatomy, block)
    up, gate = _feed(named(block.layer, ("mlp",), "MLP"))
    if gains:
        before, after = _gain(block.before), _gain(block.before_mlp)
        q, k, v, up = q * before, k * before, v * before, up * after
        gate = None if gate is None else gate * after
    names = tuple(
        f"{prefix}.{name}.weight"
        for name, module in block.layer.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2
    )
    o, down = matrix_of(block.mix).T, matrix_of(block.down).T
    return Parts(q, k, v, o, up, gate, down, anatomy.heads, anatomy.groups, names)


def _gain(norm: nn.Module) -> Tensor:
    weight = norm.weight
    assert isinstance(weight, Tensor)
    plus_one = type(norm).__name__.startswith("Gemma")
    return (weight.float() + 1) if plus_one else weight.float()


def _attention(anatomy: Anatomy, block: Block) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as [out, D], also out of fused projections."""
    attention = block.attention
    if hasattr(attention, "q_proj"):
        q, k, v = (matrix_of(named(attention, (f"{x}_proj",), "projection")).T for x in "qkv")
        return q, k, v
    if hasattr(attention, "query_key_value"):  # GPT-NeoX: q, k, v side by side in each head
        fused = matrix_of(named(attention, ("query_key_value",), "projection")).T
        split = unflatten(fused, 0, (anatomy.heads, 3, anatomy.head_size))
        return split[:, 0].flatten(0, 1), split[:, 1].flatten(0, 1), split[:, 2].flatten(0, 1)
    fused = matrix_of(named(attention, ("qkv_proj", "c_attn"), "query, key and value projection")).T
    size = anatomy.groups * anatomy.head_size
    return fused[: -2 * size], fused[-2 * size : -size], fused[-size:]


def _feed(mlp: nn.Module) -> tuple[Tensor, Tensor | None]:
    """up and, where there is one, gate, [F, D]."""
    if hasattr(mlp, "gate_up_proj"):  # Phi-3
        gate, up = matrix_of(named(mlp, ("gate_up_proj",), "projection")).T.chunk(2)
        return up, gate
    up = matrix_of(named(mlp, UP, "up projection")).T
    gated = hasattr(mlp, "gate_proj")
    return up, matrix_of(named(mlp, ("gate_proj",), "gate")).T if gated else None


def check_layers(parts: list[Parts]) -> list[Parts]:
    """Return `parts`; raises UsageError where scores across layers would mean nothing."""
    if len(parts) < 2:
        raise UsageError(f"a model of {len(parts)} layer has none to prefer: give all of it the same bits")
    return parts
