"""Where the parts of a decoder are: heads, neurons, norms, head. One table of names for every kind of model.

Names are looked up, never trusted: `record` checks that what the parts write adds up to the residual stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..taps import LAYER_PATHS, decoder_layers, unwrapped

ATTENTION = ("self_attn", "attention", "attn")
MIX = ("o_proj", "dense", "c_proj")
DOWN = ("down_proj", "dense_4h_to_h", "fc2", "c_proj")
BEFORE_ATTENTION = ("input_layernorm", "ln_1")
BEFORE_MLP = ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2")
FINAL = ("norm", "ln_f", "final_layernorm", "final_layer_norm")
BESIDES = ("ple_norm",)  # the last module of a branch by which a layer looks its token up


def named(parent: nn.Module, names: tuple[str, ...], what: str) -> nn.Module:
    """Return the first sub-module of `parent` that is called one of `names`; raises UsageError for none."""
    for name in names:
        found = getattr(parent, name, None)
        if isinstance(found, nn.Module):
            return found
    raise UsageError(
        f"{type(parent).__name__} has no {what} (looked for {', '.join(names)}; it has "
        f"{', '.join(name for name, _ in parent.named_children())}); locate needs a decoder of a known kind"
    )


def matrix_of(module: nn.Module) -> Tensor:
    """Weight as [in, out], whichever way the module keeps it (Linear: [out,in]; GPT-2's Conv1D: [in,out])."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.float().T if isinstance(module, nn.Linear) or not hasattr(module, "nf") else weight.float()


def unflatten(x: Tensor, dim: int, sizes: tuple[int, ...]) -> Tensor:
    """Split dimension `dim` of x into `sizes`."""
    at = dim % x.ndim
    return x.reshape(*x.shape[:at], *sizes, *x.shape[at + 1 :])


def bias_of(module: nn.Module) -> Tensor | None:
    """Bias [out], or None."""
    bias = getattr(module, "bias", None)
    return bias.float() if isinstance(bias, Tensor) else None


@dataclass(frozen=True, eq=False)
class Block:
    """One decoder layer. `mix` writes the heads ([H*d] -> [D]), `down` the neurons ([F] -> [D]); where the
    kind has norms after them (Gemma 2 and 3), `attention_norm` and `mlp_norm` are between them and the
    stream. `besides` writes what a layer adds besides the two (per-layer embeddings), where there is such a
    thing.
    """

    index: int
    layer: nn.Module
    attention: nn.Module
    mix: nn.Module
    down: nn.Module
    before: nn.Module
    before_mlp: nn.Module
    attention_norm: nn.Module | None
    mlp_norm: nn.Module | None
    besides: nn.Module | None = None

    @classmethod
    def of(cls, index: int, layer: nn.Module) -> Block:
        """Find the parts of a layer. Raises UsageError naming the part that is missing."""
        attention = named(layer, ATTENTION, "attention")
        before = named(layer, BEFORE_ATTENTION, "norm before attention")
        after = hasattr(layer, "post_feedforward_layernorm")
        # Phi reads both from one norm
        one_norm = not any(isinstance(getattr(layer, name, None), nn.Module) for name in BEFORE_MLP)
        return cls(
            index,
            layer,
            attention,
            named(attention, MIX, "output projection"),
            named(named(layer, ("mlp",), "MLP"), DOWN, "down projection"),
            before,
            before if one_norm else named(layer, BEFORE_MLP, "norm before the MLP"),
            named(layer, ("post_attention_layernorm",), "norm after attention") if after else None,
            named(layer, ("post_feedforward_layernorm",), "norm after the MLP") if after else None,
            next((getattr(layer, name) for name in BESIDES if hasattr(layer, name)), None),
        )


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A model and its parts: L blocks, H query heads of size d (sharing `groups` value heads), width D."""

    model: Any
    blocks: tuple[Block, ...]
    norm: nn.Module
    head: nn.Module
    heads: int
    groups: int
    head_size: int
    fingerprint: str = ""

    @classmethod
    def of(cls, model: nn.Module, fingerprint: str = "") -> Anatomy:
        """Find the parts of a Hugging Face decoder with a language-model head.

        Raises UsageError for kinds without a residual stream of known layers, and names what is missing.
        """
        layers = decoder_layers(model)
        inner: Any = unwrapped(model)
        head = getattr(inner, "get_output_embeddings", lambda: None)()
        if not isinstance(head, nn.Module):
            raise UsageError(
                f"{type(inner).__name__} has no language-model head; locate reads what parts say in words: "
                "load it as a causal language model"
            )
        blocks = tuple(Block.of(index, layer) for index, layer in enumerate(layers))
        config = getattr(inner.config, "text_config", None) or inner.config
        heads = int(config.num_attention_heads)
        size = matrix_of(blocks[0].mix).shape[0] // heads
        groups = int(getattr(config, "num_key_value_heads", None) or heads)
        return cls(model, blocks, _final_norm(inner), head, heads, groups, size, fingerprint)

    @property
    def layers(self) -> int:
        """Number L of decoder layers."""
        return len(self.blocks)

    @property
    def width(self) -> int:
        """Width D of the residual stream."""
        return matrix_of(self.blocks[0].mix).shape[1]

    @property
    def neurons(self) -> int:
        """Number F of neurons of one layer."""
        return matrix_of(self.blocks[0].down).shape[0]

    @cached_property
    def unembed(self) -> Tensor:
        """What the head multiplies a normed state with: [D, V], float32."""
        return matrix_of(self.head)

    @property
    def softcap(self) -> float | None:
        """Gemma 2's cap c of the logits, c * tanh(logit / c); None elsewhere."""
        value = getattr(unwrapped(self.model).config, "final_logit_softcapping", None)
        return float(value) if value else None

    def value_map(self, layer: int) -> tuple[Tensor, Tensor | None]:
        """Return W_V [D, groups*d] and its bias, also out of fused projections."""
        attention = self.blocks[layer].attention
        size = self.groups * self.head_size
        if hasattr(attention, "v_proj"):
            plain = named(attention, ("v_proj",), "value projection")
            return matrix_of(plain), bias_of(plain)
        if hasattr(attention, "query_key_value"):  # GPT-NeoX: q, k, v side by side in each head
            mixed = named(attention, ("query_key_value",), "value projection")
            weight, bias = matrix_of(mixed), bias_of(mixed)
            split = (self.heads, 3, self.head_size)
            rows = unflatten(weight, 1, split)[:, :, 2].flatten(1)
            return rows, None if bias is None else unflatten(bias, 0, split)[:, 2].flatten()
        fused = named(attention, ("qkv_proj", "c_attn"), "value projection")
        bias = bias_of(fused)
        return matrix_of(fused)[:, -size:], None if bias is None else bias[-size:]

    def head_columns(self, head: int) -> slice:
        """Where query head `head` sits in the input of `mix`."""
        return slice(head * self.head_size, (head + 1) * self.head_size)

    def check_layer(self, layer: int) -> int:
        """Return `layer`; raises UsageError when the model has none such."""
        if not 0 <= layer < self.layers:
            raise UsageError(f"layer {layer} does not exist; this model has layers 0 to {self.layers - 1}")
        return layer


def _final_norm(model: nn.Module) -> nn.Module:
    kind = str(getattr(model.config, "model_type", ""))
    for path in LAYER_PATHS[kind]:
        parent = path.rpartition(".")[0]
        try:
            found = attrgetter(parent)(model) if parent else model
        except AttributeError:
            continue
        if any(isinstance(getattr(found, name, None), nn.Module) for name in FINAL):
            return named(found, FINAL, "final norm")
    raise UsageError(
        f"{type(model).__name__} has no final norm that is known; locate reads states through it"
    )


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """Let attention be computed plainly, so that its weights can be seen; then as before.

    Raises UsageError for a model that cannot be switched.
    """
    inner: Any = unwrapped(model)
    switch = getattr(inner, "set_attn_implementation", None)
    if switch is None:
        raise UsageError(
            f"{type(inner).__name__} does not show its attention weights; load the Hugging Face model "
            "instead "
            "(load_model_folder)"
        )
    before = inner.config._attn_implementation
    switch("eager")
    try:
        yield
    finally:
        switch(before)


@contextmanager
def hooks(*handles: Any) -> Iterator[None]:
    """Remove hooks when the block is left, however it is left."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first(output: Any) -> Tensor:
    """The tensor in a module's output, which may be a tuple led by it."""
    found = output[0] if isinstance(output, tuple) else output
    assert isinstance(found, torch.Tensor), type(found)
    return found
