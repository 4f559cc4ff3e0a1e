"""Rows of different lengths in one forward pass: their tokens lie end to end, each attends to its own cache.

Linear maps see all tokens of a pass as one matrix [N, D]. Only attention knows rows: each segment of tokens
attends to the cache of its row, so that rows join and leave without padding, and none can see another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..lean import LeanCache, LeanDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Decoder = LeanDecoder | PreTrainedModel


class RowCache:
    """Keys and values [T, heads, head_dim] of one row, per layer, in buffers of `room` tokens.

    `append` writes behind what is held and `advance` counts it, so that a pass that failed can be run again.
    """

    def __init__(self, layers: int, room: int) -> None:
        self.room, self.length = room, 0
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.held = [0] * layers
        self._owned = [False] * layers

    @classmethod
    def of(cls, cache: Any, length: int, room: int) -> RowCache:
        """Return the row of a decoder's own cache of one row (`LeanCache` or `DynamicCache`) that read
        `length` tokens; nothing is copied yet.
        """
        row = cls(len(cache.layers), room)
        heads_first = not isinstance(cache, LeanCache)
        for index, layer in enumerate(cache.layers):
            if layer.keys is not None and layer.keys.numel():
                keys, values = layer.keys[0], layer.values[0]
                row.keys[index] = keys.transpose(0, 1) if heads_first else keys
                row.values[index] = values.transpose(0, 1) if heads_first else values
                row.held[index] = keys.shape[1 if heads_first else 0]
        row.length = length
        return row

    def fork(self, length: int, room: int) -> RowCache | None:
        """Return a row that begins with the first `length` tokens and grows apart; None where a sliding
        window has dropped what those need.
        """
        whole = all(held == self.length for held in self.held)
        if length > self.length or (length < self.length and not whole):
            return None
        row = RowCache(len(self.keys), room)
        row.keys, row.values, row.length = list(self.keys), list(self.values), length
        row.held = [held - (self.length - length) for held in self.held]
        return row

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return sum(x.numel() * x.element_size() for x in (*self.keys, *self.values) if x is not None)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write n tokens' keys and values [n, heads, head_dim] behind what is held; return all [T, …]."""
        held, new = self.held[layer], keys.shape[0]
        if not self._owned[layer]:
            self._own(layer, keys, values)
        k, v = self.keys[layer], self.values[layer]
        assert k is not None
        assert v is not None
        k[held : held + new] = keys
        v[held : held + new] = values
        return k[: held + new], v[: held + new]

    def _own(self, layer: int, keys: Tensor, values: Tensor) -> None:
        for kept, like in ((self.keys, keys), (self.values, values)):
            before = kept[layer]
            buffer = like.new_empty(self.room, *like.shape[1:])
            if before is not None:
                buffer[: self.held[layer]] = before[: self.held[layer]]
            kept[layer] = buffer
        self._owned[layer] = True

    def advance(self, tokens: int) -> None:
        """Count `tokens` that every layer has appended."""
        self.length += tokens
        self.held = [held + tokens for held in self.held]


@dataclass(frozen=True, eq=False)
class Segment:
    """`tokens` of one row, to be read after what its cache holds."""

    cache: RowCache
    tokens: Sequence[int]


class RowsPass:
    """One forward pass over segments. Serves the lean decoder as its `Rows`."""

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        self.segments = segments
        self.ids = torch.tensor([[t for s in segments for t in s.tokens]], device=device)
        places = [p for s in segments for p in range(s.cache.length, s.cache.length + len(s.tokens))]
        self.positions = torch.tensor(places, device=device)
        self.end = max(places) + 1
        ends, at = [], 0
        for segment in segments:
            at += len(segment.tokens)
            ends.append(at)
        self.ends = ends

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float | None = None,
        window: int | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Attention of every segment over its row: q [N, heads, d], k and v [N, key-value heads, d] ->
        [N, heads, d].
        """
        found, start = [], 0
        for segment, end in zip(self.segments, self.ends, strict=True):
            keys, values = segment.cache.append(layer, k[start:end], v[start:end])
            found.append(attention(q[start:end], keys, values, scale, window, softcap))
            start = end
        return found[0] if len(found) == 1 else torch.cat(found)

    def advance(self) -> None:
        """Count the tokens as read; call it once the pass is through."""
        for segment in self.segments:
            segment.cache.advance(len(segment.tokens))


def attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None, softcap: float | None
) -> Tensor:
    """Causal attention of the last n of T tokens: q [n, heads, d], k and v [T, key-value heads, d] -> [n,
    heads, d].
    """
    new, total = q.shape[0], k.shape[0]
    windowed = window is not None and total > window
    if softcap is not None:
        return _capped(q, k, v, scale, window, softcap)
    mask = _mask(new, total, window, q.device) if windowed or (1 < new < total) else None
    y = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        mask,
        is_causal=mask is None and new > 1,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return y[0].transpose(0, 1)


def _mask(new: int, total: int, window: int | None, device: torch.device) -> Tensor:
    """Which of `total` tokens each of the last `new` sees: [new, total], true for seen."""
    mask = torch.ones(new, total, dtype=torch.bool, device=device).tril(total - new)
    return mask if window is None else mask.triu(total - new - window + 1)


def _capped(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, window: int | None, softcap: float
) -> Tensor:
    """Attention whose scores are squashed to softcap * tanh(score / softcap) (Gemma 2)."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.einsum("nhd,thd->hnt", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~_mask(q.shape[0], k.shape[0], window, q.device), float("-inf"))
    return torch.einsum("hnt,thd->nhd", scores.softmax(-1, torch.float32).to(q.dtype), v)


# -- decoders ----------------------------------------------------------------------------------------------


def run(model: Decoder, rows: RowsPass, keep: Sequence[int] | None = None) -> Tensor:
    """Read all segments; return logits [K, V] at the flat places `keep` (None: all N). Does not `advance`."""
    kept = list(range(rows.ids.shape[1]) if keep is None else keep)
    places = torch.tensor(kept, dtype=torch.long, device=rows.ids.device)
    if isinstance(model, LeanDecoder):
        hidden = model.model(rows.ids, None, rows)
        found: Tensor = model.lm_head(hidden[0, places])
        return found
    from .huggingface import attending

    with attending(model, rows):
        found = model(
            input_ids=rows.ids, position_ids=rows.positions[None], use_cache=False, logits_to_keep=places
        ).logits[0]
    return found
