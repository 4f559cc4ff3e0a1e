"""A row of a batch: one request, from the first chunk of its prompt to its last token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..tokenizing import ChatCodec, Detokenizer, StopTexts
from .base import Finish, Head, Request, RequestFailed, TokenEvent
from .instruments import Slot
from .rows import RowCache
from .sampling import draw
from .stream import Stream


class HeadSet:
    """Some heads of a request, stacked by layer so that one product reads all of a layer."""

    def __init__(self, heads: Sequence[Head], device: torch.device) -> None:
        self.heads, self.device = tuple(heads), device
        self.key = tuple(id(head) for head in heads)
        self.each = [at for at, head in enumerate(heads) if head.at == "token"]
        self.ends = [(at, head.name) for at, head in enumerate(heads) if head.at == "end"]

    @cached_property
    def stacks(self) -> list[tuple[int, Tensor, Tensor]]:
        """(layer, weight [D, heads], bias [heads]), made when a batch first reads with them: some engines
        read heads themselves.
        """
        found = []
        for layer in self._layers:
            mine = [head for head in self.heads if head.layer == layer]
            weight = torch.stack([head.weight.float() for head in mine], 1).to(self.device)
            bias = torch.tensor([head.bias for head in mine], dtype=torch.float, device=self.device)
            found.append((layer, weight, bias))
        return found

    @property
    def _layers(self) -> Sequence[int]:
        return tuple(dict.fromkeys(head.layer for head in self.heads))

    @cached_property
    def _back(self) -> Tensor | None:
        """Where each head's column is among the stacks'; None where they stand in order."""
        order = [at for layer in self._layers for at, head in enumerate(self.heads) if head.layer == layer]
        return None if order == sorted(order) else torch.tensor(order, device=self.device).argsort()

    def logits(self, seen: dict[int, Tensor], places: Sequence[int]) -> list[list[float]]:
        """Return the logits of every head, in order, at each of the flat places of kept states [N, D]."""
        found = []
        for layer, weight, bias in self.stacks:
            x = seen[layer] if len(places) == seen[layer].shape[0] else seen[layer][list(places)]
            found.append(torch.addmm(bias, x.float(), weight))
        whole = found[0] if len(found) == 1 else torch.cat(found, 1)
        ordered = whole if self._back is None else whole.index_select(1, self._back)
        values: list[list[float]] = ordered.tolist()
        return values


@dataclass(eq=False)
class Row:
    """One open request. `tokens` are prompt, invocation and answer so far; from `boundary` on they are
    generation.

    `serial` is unique within its engine, `model` names one of the engine's. `limit` is the most tokens the
    answer may have.
    """

    serial: int
    request: Request
    stream: Stream
    codec: ChatCodec
    cache: RowCache
    tokens: list[int]
    boundary: int
    limit: int
    model: str
    adapter: str | None = None
    slots: tuple[Slot, ...] = ()
    answering: HeadSet | None = None
    asking: HeadSet | None = None
    drawn: int = 0
    text: Detokenizer = field(init=False)
    stops: StopTexts = field(init=False)

    def __post_init__(self) -> None:
        self.text = Detokenizer(self.codec)
        self.stops = StopTexts((*self.request.sampling.stop, *self.codec.stop_texts))

    @property
    def unread(self) -> int:
        """How many tokens are still to be read before the next can be drawn."""
        return len(self.tokens) - self.cache.length

    @property
    def plain(self) -> bool:
        """Whether the next token is the likeliest one."""
        return self.request.sampling.temperature == 0.0 and self.request.sampling.repetition == 1.0

    def choose(self, logits: Tensor, best: int) -> int:
        """Return the next token; `best` is the likeliest of logits [V]."""
        return best if self.plain else draw(logits, self.request.sampling, self.drawn, self.tokens)

    def accept(self, token: int, logprob: float, readings: Sequence[float] = ()) -> None:
        """Take the drawn token with what the answering heads read: make its event, and end the stream where
        it ends the answer.
        """
        self.accept_all(((token, logprob),), readings)

    def accept_all(self, drawn: Sequence[tuple[int, float]], readings: Sequence[float] = ()) -> None:
        """Take tokens with their log-probabilities, up to the one that ends the answer. Who reads the stream
        is woken once for all of them.
        """
        events: list[TokenEvent] = []
        for token, logprob in drawn:
            if not math.isfinite(logprob):
                self.stream.put(*events)
                self.stream.fail(overflow(f"token {self.drawn} of the answer has log-probability {logprob}"))
                return
            events.append(self._event(token, logprob, readings))
            if events[-1].finish_reason is not None:
                break
        self.stream.put(*events)

    def _event(self, token: int, logprob: float, readings: Sequence[float]) -> TokenEvent:
        self.drawn += 1
        self.tokens.append(token)
        text = self._text_of(token)
        ended = token in self.codec.stops or self.stops.stopped
        finish: Finish | None = "stop" if ended else "length" if self.drawn == self.limit else None
        heads = self.answering
        if heads is None:
            return TokenEvent(token, text, logprob, finish)
        for at, name in heads.ends if finish is not None else ():
            self.stream.read(name, readings[at])
        return TokenEvent(token, text, logprob, finish, tuple([readings[at] for at in heads.each]))

    def _text_of(self, token: int) -> str:
        text, stops = self.text, self.stops
        if token in self.codec.stops:
            return stops.push(text.flush()) + stops.flush()
        piece = stops.push(text.push(token))
        if self.drawn == self.limit and not stops.stopped:
            piece += stops.push(text.flush())
            piece += stops.flush()
        return piece


def overflow(what: str) -> RequestFailed:
    """The error of a request whose numbers are not finite."""
    return RequestFailed(
        f"{what}: numbers overflowed in the forward pass; steer less strongly, or look at the adapter"
    )
