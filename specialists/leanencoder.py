"""A BERT encoder in torch alone, for inference: what a scout reads of MiniLM and its kin.

Hugging Face's model is the reference. This twin reads the same folders and gives the same hidden states, with
one product for queries, keys and values and none of the bookkeeping, in two thirds of the time. Rows of
one call are equally long, so nothing is padded and nothing masked. What it does not know it refuses
(`NotLean`).

Devlin et al., 'BERT: pre-training of deep bidirectional transformers' (2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .leanconfig import NotLean
from .weights import read_json, read_model_tensors

_USUAL = 128  # tokens of a prompt that weights are packed for; others work too


class Map(NamedTuple):
    """A linear map: weight [out, in], bias [out]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Packed(NamedTuple):
    """A linear map in bfloat16 whose weight lies as oneDNN multiplies it, so that no call lays it out anew: a
    tenth faster. The map that it was made of is its twin.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, plain: Map) -> Packed | Map:
        """The map packed, or as it is where torch has no such product for it."""
        product = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
        if plain.weight.dtype != torch.bfloat16 or product is None or not fast_bfloat16():
            return plain
        return cls(torch.ops.mkldnn._reorder_linear_weight(plain.weight, _USUAL), plain.bias)

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return found


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Norm(NamedTuple):
    """Layer normalisation: weight [D], bias [D], and what is added to the variance."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Layer(NamedTuple):
    """One encoder layer; each norm follows the sum with what came in. Queries come divided by sqrt(size)."""

    qkv: Map | Packed
    out: Map | Packed
    attended: Norm
    up: Map | Packed
    down: Map | Packed
    norm: Norm
    heads: int

    def __call__(self, x: Tensor) -> Tensor:
        """[B,T,D] -> [B,T,D]."""
        x = self.attended(x + self.out(self._attention(x)))
        return self.norm(x + self.down(F.gelu(self.up(x))))

    def _attention(self, x: Tensor) -> Tensor:
        rows, tokens, width = x.shape
        size = width // self.heads
        q, k, v = self.qkv(x).view(rows, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        # Plain products: torch's fused attention takes longer for heads this small.
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        mixed: Tensor = weights @ v
        return mixed.transpose(1, 2).reshape(rows, tokens, width)


@dataclass(frozen=True, eq=False)
class LeanEncoder:
    """A BERT encoder. words [V,D]; places [P,D]: positions and the first segment, added up."""

    words: Tensor
    places: Tensor
    norm: Norm
    layers: tuple[Layer, ...]

    @torch.inference_mode()
    def states(self, tokens: Sequence[Sequence[int]], deepest: int | None = None) -> list[Tensor]:
        """Hidden states [B,T,D] of equally long rows: 0 is the embedding, then layer by layer to `deepest`
        (None: the last).
        """
        ids = torch.tensor(tokens)
        x = self.norm(F.embedding(ids, self.words) + self.places[: ids.shape[1]])
        found = [x]
        for layer in self.layers[:deepest]:
            found.append(layer(found[-1]))
        return found


def load_lean_encoder(folder: Path, dtype: torch.dtype) -> LeanEncoder:
    """Return the encoder in a Hugging Face folder.

    Raises:
        NotLean: it is no plain BERT, or its tensors are not those of one: says what.
        WeightsError: its files are missing, pickled, truncated or damaged.
    """
    config = read_json(folder / "config.json")
    _plain(config)
    found = read_model_tensors(folder)
    named = {name.removeprefix("bert."): one for name, one in found.items() if one.is_floating_point()}
    stored = _Stored(named, config, dtype)
    try:
        return LeanEncoder(
            stored.named["embeddings.word_embeddings.weight"].to(dtype),
            stored.places(),
            stored.norm("embeddings.LayerNorm"),
            tuple(stored.layer(f"encoder.layer.{i}") for i in range(int(config["num_hidden_layers"]))),
        )
    except KeyError as error:
        raise NotLean(f"{folder} has no {error.args[0]}: restore it") from None


class _Stored(NamedTuple):
    """A BERT's tensors by name, and its parts as they are needed; a missing tensor is a KeyError."""

    named: Mapping[str, Tensor]
    config: Mapping[str, Any]
    dtype: torch.dtype

    def places(self) -> Tensor:
        """Positions, with the first segment's embedding added."""
        first = self.named["embeddings.token_type_embeddings.weight"][0]
        return (self.named["embeddings.position_embeddings.weight"] + first).to(self.dtype)

    def norm(self, name: str) -> Norm:
        return Norm(*self.linear(name), float(self.config.get("layer_norm_eps", 1e-12)))

    def linear(self, name: str) -> Map:
        return Map(*(self.named[f"{name}.{kind}"].to(self.dtype) for kind in ("weight", "bias")))

    def asking(self, name: str) -> Map:
        """Queries, keys and values in one; queries are divided by sqrt(size) once, not at every token."""
        size = int(self.config["hidden_size"]) // int(self.config["num_attention_heads"])
        by = {"query": size**-0.5, "key": 1.0, "value": 1.0}
        joined = (
            torch.cat([self.named[f"{name}.{one}.{kind}"].float() * scale for one, scale in by.items()])
            for kind in ("weight", "bias")
        )
        return Map(*(part.to(self.dtype) for part in joined))

    def layer(self, name: str) -> Layer:
        return Layer(
            Packed.of(self.asking(f"{name}.attention.self")),
            Packed.of(self.linear(f"{name}.attention.output.dense")),
            self.norm(f"{name}.attention.output.LayerNorm"),
            Packed.of(self.linear(f"{name}.intermediate.dense")),
            Packed.of(self.linear(f"{name}.output.dense")),
            self.norm(f"{name}.output.LayerNorm"),
            int(self.config["num_attention_heads"]),
        )


def _plain(config: Mapping[str, Any]) -> None:
    """Raise NotLean where the config asks for something else than a plain BERT encoder."""
    wanted = {
        "model_type": ("bert", None),
        "hidden_act": ("gelu", "gelu"),
        "position_embedding_type": ("absolute", "absolute"),
        "is_decoder": (False, False),
    }
    for name, (value, usual) in wanted.items():
        if config.get(name, usual) != value:
            raise NotLean(f"the encoder has {name} {config.get(name)!r}; the lean one runs {value!r} alone")
