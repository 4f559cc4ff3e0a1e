"""Taps: read the residual stream of a Hugging Face decoder, and pool it into the vector that probes read.

`states[l]` is the residual stream AFTER decoder layer `l` (0-based), before any final norm. In Hugging
Face's `output_hidden_states` that is entry l+1, except for the last layer: there Hugging Face returns the
stream after the final norm instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from types import TracebackType
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..store.errors import UsageError
from .checks import finite

# Where each kind of model keeps its decoder layers: `<kind>ForCausalLM` first, the bare model second.
_LLAMA = ("model.layers", "layers")
_GEMMA_3 = ("model.language_model.layers", "language_model.layers", *_LLAMA)
LAYER_PATHS: dict[str, tuple[str, ...]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3": _GEMMA_3,
    "gemma3_text": _GEMMA_3,
    "mistral": _LLAMA,
    "phi": _LLAMA,
    "phi3": _LLAMA,
    "gpt2": ("transformer.h", "h"),
    "gpt_neox": ("gpt_neox.layers", "layers"),
}


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the Hugging Face model inside PEFT wrappers, or `model` itself."""
    inner: Any = model
    while hasattr(inner, "peft_config") and hasattr(inner, "base_model"):
        inner = getattr(inner.base_model, "model", inner.base_model)
    assert isinstance(inner, nn.Module)
    return inner


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """Return the decoder layers of a Llama, Qwen2/3, Gemma 1/2/3, Mistral, Phi, Phi-3, GPT-2 or GPT-NeoX
    model (bare, with a language-model head, or wrapped by PEFT).

    Raises UsageError for any other kind: a layer list found by guessing may not carry a residual stream.
    """
    inner = unwrapped(model)
    kind = getattr(getattr(inner, "config", None), "model_type", None)
    for path in LAYER_PATHS.get(str(kind), ()):
        try:
            found = attrgetter(path)(inner)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList):
            return found
    raise UsageError(
        f"no decoder layers are known for {type(inner).__name__} (model_type {kind!r}); taps and steering "
        f"support {', '.join(sorted(LAYER_PATHS))}; choose a trunk of one of these kinds"
    )


def layer_at(layers: nn.ModuleList, index: int) -> nn.Module:
    """Return decoder layer `index` (0-based). Raises UsageError when there is none."""
    if not 0 <= index < len(layers):
        raise UsageError(f"layer {index} does not exist; this model has layers 0 to {len(layers) - 1}")
    return layers[index]


def stream(output: Any) -> Tensor:
    """Return the residual stream [B,T,D] in a decoder layer's output (a tensor, or a tuple led by it)."""
    found = output[0] if isinstance(output, tuple) else output
    assert isinstance(found, Tensor), type(found)
    return found


class Taps:
    """Context manager: while it is open, every forward pass leaves the residual stream in `.states`.

    `.states[l]`: Tensor [B,T,D] after decoder layer `l`, of the last forward pass. With `detach=False` it
    keeps its graph. A tap sees the effect of a `Steering` opened before it, not of one opened after it.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], *, detach: bool = True) -> None:
        found = decoder_layers(model)
        self.layers = tuple(layers)
        self._modules = {index: layer_at(found, index) for index in self.layers}
        self._detach = detach
        self._handles: list[Any] = []
        self.states: dict[int, Tensor] = {}

    def _keeper(self, index: int) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            x = stream(output)
            self.states[index] = x.detach() if self._detach else x

        return keep

    def __enter__(self) -> Taps:
        self._handles = [
            module.register_forward_hook(self._keeper(index)) for index, module in self._modules.items()
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


# -- pooling -----------------------------------------------------------------------------------------------


def _tokens(x: Tensor) -> Tensor:
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise UsageError(
            f"pooling got shape {list(x.shape)}; it takes one prompt's states [T,D] with T >= 1; "
            "take one row of the batch, without padding"
        )
    return finite("the residual stream", x)


def pool_last(x: Tensor) -> Tensor:
    """Return the state of the last token: [T,D] -> [D], float32."""
    return _tokens(x)[-1].float()


def pool_max_rolling_mean(x: Tensor, window: int = 8) -> Tensor:
    """Return, per dimension, the highest mean over any `window` tokens in a row: [T,D] -> [D], float32.

    Token 0 is left out where there are others: it sees only itself, and as an attention sink its norm
    would drown the rest. Prompts shorter than the window are one window.
    """
    if window < 1:
        raise UsageError(f"window is {window}; it counts tokens and must be at least 1")
    rows = _tokens(x).float()
    rows = rows[1:] if rows.shape[0] > 1 else rows
    width = min(window, rows.shape[0])
    return rolling_sums(rows, width).amax(dim=0) / width


Numbers = TypeVar("Numbers", Tensor, NDArray[np.float32])


def rolling_sums(rows: Numbers, width: int) -> Numbers:
    """Return the sums of any `width` neighbours: [T,D] -> [T - width + 1, D].

    Sums of 1, 2, 4, … rows are added up as the bits of `width` say, so eight rows cost three additions.
    """
    total: Numbers | None = None
    doubled, size, done = rows, 1, 0
    while True:
        if width & size:
            part = doubled[done : done + rows.shape[0] - width + 1]
            total, done = (part if total is None else total + part), done + size
        size *= 2
        if size > width:
            assert total is not None
            return total
        doubled = doubled[: -(size // 2)] + doubled[size // 2 :]


def pool_mean(x: Tensor) -> Tensor:
    """Return the mean over all tokens: [T,D] -> [D], float32."""
    return _tokens(x).float().mean(0)


def pool_attention(x: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the mean of the tokens before the last, weighted by how alike they are to it: [T,D] -> [D].

    Weights are a softmax of cosine / temperature: attention with the last state as the query (Luong et al.,
    'Effective approaches to attention-based neural machine translation', 2015, eq. 7 and 8, `dot`). No query
    is learnt, so a pooled vector tells nothing of labels. Token 0 is left out where there are others.
    """
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}; it divides likeness and must be above 0")
    rows = _tokens(x).float()
    keys = rows[1:-1] if rows.shape[0] > 2 else rows[-1:]
    likeness = nn.functional.cosine_similarity(keys, rows[-1:], dim=1)
    return torch.softmax(likeness / temperature, 0) @ keys


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "last": pool_last,
    "mean": pool_mean,
    "max_rolling_mean": pool_max_rolling_mean,
    "attention": pool_attention,
}


# -- the same on arrays: a prompt waits for its pooling, and a call on tensors costs several on arrays ------

Array = NDArray[np.float32]


def _array(x: Tensor) -> Array:
    """One prompt's states [T,D] as an array, checked as `_tokens` does."""
    found: Array = x.numpy()
    with np.errstate(all="ignore"):
        squares = np.vdot(found, found)
    # a finite sum of squares has finite terms
    if found.ndim != 2 or not found.size or not math.isfinite(squares):
        _tokens(x)
    return found


def _array_last(x: Array) -> Array:
    last: Array = x[-1]
    return last


def _array_max_rolling_mean(x: Array, window: int = 8) -> Array:
    rows = x[1:] if len(x) > 1 else x
    width = min(window, len(rows))
    highest: Array = np.maximum.reduce(rolling_sums(rows, width))
    highest /= width
    return highest


ARRAY_POOLINGS: dict[str, Callable[[Array], Array]] = {
    "last": _array_last,
    "max_rolling_mean": _array_max_rolling_mean,
}


Span = Literal["conversation", "turn"]
SPANS: tuple[Span, ...] = ("conversation", "turn")


@dataclass(frozen=True)
class Site:
    """Where probes read: some layers, each pooled in some ways over the conversation, or its last turn alone.

    The vector is the concatenation of blocks [D], layer by layer, and within a layer pooling by pooling. What
    an earlier turn was about still colours a mean of all tokens; the last turn's states know it by attention
    where it matters.
    """

    layers: tuple[int, ...]
    poolings: tuple[str, ...] = ("last",)
    span: Span = "conversation"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))
        object.__setattr__(self, "poolings", tuple(self.poolings))
        unknown = [name for name in self.poolings if name not in POOLINGS]
        if not self.layers or not self.poolings or unknown or min(self.layers) < 0:
            raise UsageError(
                f"site with layers {self.layers} and poolings {self.poolings}: name at least one layer from "
                f"0 up and at least one pooling of {', '.join(POOLINGS)}"
            )
        if self.span not in SPANS:
            raise UsageError(f"site {self.name} pools over {self.span!r}; choose one of {', '.join(SPANS)}")
        if len(set(self.blocks)) != len(self.blocks):
            raise UsageError(f"site {self.name} names a layer or pooling twice; name each once")

    @classmethod
    def usual(cls, layers: Sequence[int]) -> Site:
        """Where probes read unless told otherwise: the last token, and rolling means over the last turn."""
        return cls(tuple(layers), ("last", "max_rolling_mean"), "turn")

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Site:
        """The site among the keys of a larger object; before `span` was written it was the conversation."""
        return cls(spec["layers"], spec["poolings"], spec.get("span", "conversation"))

    @cached_property
    def blocks(self) -> tuple[tuple[int, str], ...]:
        """(layer, pooling) of each block of the vector, in order."""
        return tuple((layer, pooling) for layer in self.layers for pooling in self.poolings)

    @cached_property
    def name(self) -> str:
        """Short and readable: `L3+L5:last+max_rolling_mean`, and `@turn` for the last turn alone."""
        whole = "+".join(f"L{layer}" for layer in self.layers) + ":" + "+".join(self.poolings)
        return whole if self.span == "conversation" else f"{whole}@{self.span}"

    def size(self, width: int) -> int:
        """Length F of the vector for a model of width D."""
        return len(self.blocks) * width

    def vector(self, states: Mapping[int, Tensor], turn: int = 0) -> Tensor:
        """Pool one prompt's states ({layer: [T,D]}, or [1,T,D] as taps leave them) into [F], float32.

        turn: the token at which the last turn begins, see `turns.last_turn`. Raises UsageError when a layer
        is missing, a state is not finite, or no token is left to pool.
        """
        missing = [layer for layer in self.layers if layer not in states]
        if missing:
            raise UsageError(
                f"site {self.name} needs layers {missing}; the states hold {sorted(states)}; tap them"
            )
        first = turn if self.span == "turn" else 0
        rows = {layer: _one_prompt(states[layer])[first:] for layer in self.layers}
        if set(self.poolings) <= set(ARRAY_POOLINGS) and all(map(_plain, rows.values())):
            arrays = {layer: _array(x) for layer, x in rows.items()}
            blocks = [ARRAY_POOLINGS[pooling](arrays[layer]) for layer, pooling in self.blocks]
            return torch.from_numpy(np.concatenate(blocks))
        return torch.cat([POOLINGS[pooling](rows[layer]) for layer, pooling in self.blocks])

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `Site(**value)` reads back."""
        return {"layers": list(self.layers), "poolings": list(self.poolings), "span": self.span}


def _plain(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and not x.requires_grad


def _one_prompt(x: Tensor) -> Tensor:
    return x[0] if x.ndim == 3 and x.shape[0] == 1 else x
