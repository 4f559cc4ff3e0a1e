"""Scouts: what reads a prompt into the vector that heads read. Any decoder with known layers, or any encoder.

The model and its tokenizer come from outside, so this floor loads nothing; nor does it pad: rows of one pass
are equally long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ...store.hashes import canonical, digest
from ...store.records import Message
from ..files import read_tensors, write_tensors
from ..taps import POOLINGS, Site, Taps
from ..turns import turn_of
from .framing import core_of
from .seen import Seen
from .table import Table

Turns = Sequence[Message]
Encode = Callable[[Turns], Sequence[int]]
Rows = Sequence[Sequence[int]]  # tokens of conversations that are equally long
Codes = Callable[[Mapping[int, Tensor], int], Tensor]
_ROWS = 32
_PIECE = 1024  # prompts of a table that are read, and kept in the cache, together


class Reader(Protocol):
    """A scout. `spec` is plain JSON that says which one it is and where it reads; it names the cache too."""

    spec: Mapping[str, Any]

    def read(self, prompts: Sequence[Turns]) -> Seen:
        """Read conversations, the prompt last."""


class Forward(Protocol):
    """A decoder's pass over equally long rows of tokens."""

    def __call__(self, rows: Rows, layers: Sequence[int]) -> tuple[Mapping[int, Tensor], Tensor]:
        """{layer: residual stream [B,T,D]}, and the logits [B,V] after the last token."""


class Hidden(Protocol):
    """An encoder's pass over equally long rows of tokens."""

    def __call__(self, rows: Rows, deepest: int) -> Sequence[Tensor]:
        """Hidden states [B,T,D], the embedding first; those beyond `deepest` may be missing."""


@dataclass(frozen=True, eq=False)
class TorchForward:
    """Any decoder with known layers: the reference that faster passes are held against."""

    model: nn.Module

    def __call__(self, rows: Rows, layers: Sequence[int]) -> tuple[Mapping[int, Tensor], Tensor]:
        with Taps(self.model, layers) as taps:
            out = self.model(input_ids=torch.tensor(rows), use_cache=False, logits_to_keep=1)
        return taps.states, out.logits[:, -1]


@dataclass(frozen=True, eq=False)
class TorchHidden:
    """Any Hugging Face encoder: the reference that faster passes are held against."""

    model: nn.Module

    def __call__(self, rows: Rows, deepest: int) -> Sequence[Tensor]:
        states: Sequence[Tensor] = self.model(
            input_ids=torch.tensor(rows), output_hidden_states=True
        ).hidden_states
        return states


def text_of(turns: Turns) -> str:
    """A conversation as text heads and encoders see it: what stands around its last question is left out."""
    return "\n\n".join((*(turn.content for turn in turns[:-1]), core_of(turns[-1].content)))


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indexes of equal length, at most 32 together: without padding a batch reads as each row would alone."""
    found: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        found[length].append(index)
    for _, members in sorted(found.items()):
        for start in range(0, len(members), _ROWS):
            yield members[start : start + _ROWS]


@dataclass(eq=False)
class DecoderReader:
    """Reads the residual stream of a decoder at a site, and how sure it is of its own next token.

    `encode` gives a conversation's tokens; longer ones keep their last `context`. `codes` reads a dictionary.
    """

    forward: Forward
    encode: Encode
    site: Site
    spec: Mapping[str, Any]
    context: int = 1024
    codes: Codes | None = None

    @torch.inference_mode()
    def read(self, prompts: Sequence[Turns]) -> Seen:
        tokens = [tuple(self.encode(turns))[-self.context :] for turns in prompts]
        begins = [turn_of(turns, t, self.encode) for turns, t in zip(prompts, tokens, strict=True)]
        states: list[Tensor] = [torch.empty(0)] * len(tokens)
        signals, codes = list(states), list(states)
        for group in _groups([len(one) for one in tokens]):
            tapped, logits = self.forward([tokens[i] for i in group], self.site.layers)
            for row, index in enumerate(group):
                layers = {layer: tapped[layer][row] for layer in self.site.layers}
                states[index] = self.site.vector(layers, begins[index])
                signals[index] = sureness(logits[row])
                if self.codes is not None:
                    codes[index] = self.codes(layers, begins[index])
        texts = tuple(map(text_of, prompts))
        stacked = torch.stack(codes) if self.codes is not None else None
        return Seen(texts, torch.stack(states), torch.stack(signals), stacked)


def sureness(logits: Tensor) -> Tensor:
    """Log-probability of the likeliest token, entropy in nats, and the lead over the second: [V] -> [3]."""
    log_p = torch.log_softmax(logits.float(), 0)
    top = log_p.topk(2).values
    return torch.stack([top[0], -(log_p.exp() * log_p).sum(), top[0] - top[1]])


@dataclass(eq=False)
class EncoderReader:
    """Reads hidden states of an encoder: layers 0 (the embedding) to its last, pooled over its tokens.

    `encode` gives tokens with the encoder's special ones, at most `context`.
    """

    hidden: Hidden
    encode: Encode
    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    spec: Mapping[str, Any]
    context: int = 512

    def __post_init__(self) -> None:
        unknown = [name for name in self.poolings if name not in POOLINGS]
        if unknown or not self.poolings or not self.layers:
            raise UsageError(
                f"an encoder with layers {self.layers} and poolings {self.poolings}: name at least one of "
                "each; "
                f"poolings are {', '.join(POOLINGS)}"
            )

    @torch.inference_mode()
    def read(self, prompts: Sequence[Turns]) -> Seen:
        tokens = [self._fitted(tuple(self.encode(turns))) for turns in prompts]
        found: list[Tensor] = [torch.empty(0)] * len(tokens)
        for group in _groups([len(one) for one in tokens]):
            states = self.hidden([tokens[i] for i in group], max(self.layers))
            for row, index in enumerate(group):
                blocks = [self._at(states, layer)[row] for layer in self.layers]
                found[index] = torch.cat([POOLINGS[how](x) for x in blocks for how in self.poolings])
        return Seen(tuple(map(text_of, prompts)), torch.stack(found))

    def _fitted(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """A long text keeps its beginning, and the closing special token."""
        return tokens if len(tokens) <= self.context else (*tokens[: self.context - 1], tokens[-1])

    def _at(self, states: Sequence[Tensor], layer: int) -> Tensor:
        if not 0 <= layer < len(states):
            raise UsageError(f"layer {layer} does not exist; this encoder has layers 0 to {len(states) - 1}")
        return states[layer]


@dataclass(eq=False)
class TextReader:
    """No scout at all: heads see the text."""

    spec: Mapping[str, Any]

    def read(self, prompts: Sequence[Turns]) -> Seen:
        return Seen(tuple(map(text_of, prompts)))


def read_table_with(reader: Reader, table: Table, cache: Path | None = None) -> Seen:
    """Read all prompts of a table, some thousand at a time; with a cache folder, pieces that were read before
    are taken from there, so that what was interrupted goes on.
    """
    texts = tuple(map(text_of, table.turns))
    if reader.spec.get("kind") == "none":
        return Seen(texts, groups=table.groups)
    starts = range(0, len(table), _PIECE)
    pieces = [_piece(reader, table.turns[start : start + _PIECE], cache) for start in starts]

    def whole(name: str) -> Tensor | None:
        return torch.cat([one[name] for one in pieces]) if all(name in one for one in pieces) else None

    return Seen(texts, whole("states"), whole("signals"), whole("codes"), table.groups)


def _piece(reader: Reader, prompts: Sequence[Turns], cache: Path | None) -> dict[str, Tensor]:
    """What a scout sees of some prompts, by name; from the cache where it is there."""
    if cache is None:
        return _tensors_of(reader.read(prompts))
    plain = [[turn.model_dump() for turn in turns] for turns in prompts]
    path = cache / f"{digest(canonical([dict(reader.spec), plain]))[:40]}.safetensors"
    if path.is_file():
        return read_tensors(path, ("states",))
    found = _tensors_of(reader.read(prompts))
    write_tensors(path, found)
    return found


def _tensors_of(seen: Seen) -> dict[str, Tensor]:
    named = {"states": seen.states, "signals": seen.signals, "codes": seen.codes}
    return {name: one for name, one in named.items() if one is not None}
