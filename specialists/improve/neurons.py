"""Which weights belong to one neuron: the rows that switch it on and the column that it writes with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...store.errors import UsageError

_LAYER = re.compile(r"(.*\.layers\.\d+)\.(mlp|self_attn)\.(\w+)_proj\.weight")


@dataclass(frozen=True)
class Heads:
    """Query heads and key-value heads of a decoder."""

    heads: int
    groups: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Heads:
        """Read a parsed config.json."""
        heads = int(config["num_attention_heads"])
        return cls(heads, int(config.get("num_key_value_heads") or heads))


@dataclass(frozen=True, eq=False)
class Units:
    """Neurons of one kind in one layer: for each member tensor, the axis along which neurons lie, and the
    neuron [n] of each place there.
    """

    count: int
    members: Mapping[str, tuple[int, Tensor]]

    def norms(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The length of each neuron's weights in all members together, [count]."""
        total = torch.zeros(self.count)
        for name, (axis, owner) in self.members.items():
            total.index_add_(0, owner, tensors[name].float().square().sum(1 - axis))
        return total.sqrt()

    def spread(self, name: str, factor: Tensor) -> Tensor:
        """Lay factors [count] along a member's axis, so that it can be multiplied with them."""
        axis, owner = self.members[name]
        return factor[owner][:, None] if axis == 0 else factor[owner]


def units_of(tensors: Mapping[str, Tensor], heads: Heads) -> Iterator[Units]:
    """Yield the neurons of every layer: FFN neurons (gate and up rows, down columns), value channels (v rows
    with the o columns of the heads that share them), and the rows of q and of k, each for itself.

    Raises UsageError for a model without projections of these names.
    """
    layers: dict[str, dict[str, str]] = {}
    for name in tensors:
        found = _LAYER.fullmatch(name)
        if found:
            layers.setdefault(found[1], {})[found[3]] = name
    if not layers or any({"q", "k", "v", "o", "up", "down"} - set(parts) for parts in layers.values()):
        raise UsageError(
            "neurons are told apart in models with q_proj, k_proj, v_proj, o_proj, up_proj and down_proj "
            "(Llama, Qwen, Mistral, Gemma): use a method that needs none, or such a model"
        )
    for parts in layers.values():
        yield from _layer(tensors, parts, heads)


def _layer(tensors: Mapping[str, Tensor], parts: Mapping[str, str], heads: Heads) -> Iterator[Units]:
    feed = torch.arange(tensors[parts["up"]].shape[0])
    rows = {parts[x]: (0, feed) for x in ("gate", "up") if x in parts}
    yield Units(len(feed), {**rows, parts["down"]: (1, feed)})
    values = torch.arange(tensors[parts["v"]].shape[0])
    share = values.view(heads.groups, -1).repeat_interleave(heads.heads // heads.groups, 0).flatten()
    yield Units(len(values), {parts["v"]: (0, values), parts["o"]: (1, share)})
    for x in ("q", "k"):
        each = torch.arange(tensors[parts[x]].shape[0])
        yield Units(len(each), {parts[x]: (0, each)})
