"""The shape of a lean decoder, read from a Hugging Face config.json; what is not plain is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .weights import WeightsError

KINDS = ("llama", "qwen2", "qwen3", "mistral")
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
PARTIAL = "partial_rotary_factor"


class NotLean(WeightsError):
    """A folder that the lean decoder does not run, though Hugging Face's may."""


@dataclass(frozen=True)
class LeanConfig:
    """What config.json says of the shape, under Hugging Face's names; biases as the kind has them."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised per head."""
        return self.model_type == "qwen3"

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> LeanConfig:
        """Read a parsed config.json.

        Raises:
            NotLean: it asks for something else than a plain decoder: says what.
        """
        kind = found.get("model_type")
        if kind not in KINDS:
            raise NotLean(f"model_type {kind!r}: the lean decoder runs {', '.join(KINDS)}; use lean=False")
        odd = _oddity(kind, found)
        if odd:
            raise NotLean(f"a {kind} model with {odd}: the lean decoder runs none; use lean=False")
        sizes = {name: int(found[name]) for name in SIZES}
        plain = 128 if kind == "qwen3" else sizes["hidden_size"] // sizes["num_attention_heads"]
        bias = bool(found.get("attention_bias")) and kind in ("llama", "qwen3")
        return cls(
            model_type=kind,
            **sizes,
            head_dim=int(found.get("head_dim") or plain),
            rms_norm_eps=float(found.get("rms_norm_eps", 1e-6)),
            rope_theta=_theta(found),
            tie_word_embeddings=bool(found.get("tie_word_embeddings", False)),
            qkv_bias=bias or kind == "qwen2",
            output_bias=bias,
            mlp_bias=bool(found.get("mlp_bias")) and kind == "llama",
        )


def _oddity(kind: str, found: Mapping[str, Any]) -> str | None:
    """Name what a plain decoder of that kind does not have, if there is such a thing."""
    lacking = [name for name in SIZES if not isinstance(found.get(name), int) or found[name] < 1]
    if lacking:
        return f"no usable {lacking[0]}"
    rope = _rope(found)
    head = found.get("head_dim") or (128 if kind == "qwen3" else found["hidden_size"] // found[SIZES[4]])
    default = 4096 if kind == "mistral" else None
    window = found.get("sliding_window", default) if kind == "mistral" else found.get("use_sliding_window")
    checks = {
        f"activation {found.get('hidden_act', 'silu')!r}": found.get("hidden_act", "silu") != "silu",
        f"rope {rope!r}": rope.get("rope_type", rope.get("type", "default")) != "default",
        "partial rotary positions": {found.get(PARTIAL, 1), rope.get(PARTIAL, 1)} != {1},
        f"an odd head_dim ({head})": head % 2 == 1,
        "heads that are no multiple of key-value heads": found[SIZES[4]] % found[SIZES[5]] != 0,
        "a sliding window": bool(window) and kind != "llama",
        "layers of several types": set(found.get("layer_types") or ()) - {"full_attention"},
        "a foreign quantization": found.get("quantization_config"),
    }
    return next((name for name, odd in checks.items() if odd), None)


def _rope(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotary settings: `rope_parameters` since transformers 5, `rope_scaling` before."""
    return found.get("rope_parameters") or found.get("rope_scaling") or {}


def _theta(found: Mapping[str, Any]) -> float:
    return float(_rope(found).get("rope_theta") or found.get("rope_theta") or 10_000.0)
