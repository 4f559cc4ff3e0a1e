"""A request in a vLLM engine, and the note that goes with it into vLLM."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..base import Head, Request, TokenEvent
from ..plan import Span
from ..row import Row, overflow
from .sites import Act

NAME = "pilothouse"


@dataclass(frozen=True, eq=False)
class Reading(Request):
    """A plain pass over given tokens, nothing drawn: the prompt alone where `bare`, else with the invocation
    and the `given` answer.
    """

    given: tuple[int, ...] = ()
    bare: bool = False


class Note(NamedTuple):
    """What vLLM is told of a request, in `SamplingParams.extra_args`: its number; where its generation
    begins; a mark of who generates, and how it is steered then; how many cached tokens it may go on from.
    """

    number: int
    boundary: int
    mark: str
    reusable: int

    def plain(self) -> dict[str, Any]:
        """As `extra_args`."""
        return {NAME: list(self)}

    @classmethod
    def of(cls, params: Any) -> Note | None:
        """Read it back from `SamplingParams`; None for a request of somebody else."""
        found = (getattr(params, "extra_args", None) or {}).get(NAME)
        return None if found is None else cls(*found)


def salt_of(request: Request) -> str | None:
    """Name the steering under which a prompt is read, for vLLM's `cache_salt`; None where there is none."""
    return _digest([vector.sha256 for vector in request.vectors if vector.scope != "generation"])


def mark_of(request: Request) -> str:
    """Name who generates, and under which steering: nobody else reads tokens from the boundary on so."""
    acting = [vector.sha256 for vector in request.vectors if vector.scope != "prompt"]
    return _digest([request.specialist, *acting]) or ""


def _digest(parts: Sequence[str]) -> str | None:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest() if parts else None


@dataclass(eq=False)
class VllmRow(Row):
    """An open request. `known` are states of its tapped layers that were read before; `answering` readings
    wait in `pending` for the token that they precede. `read` counts tokens that were read so far, of them
    `begun` before its first pass; the states of the others go to `held`. `name` is vLLM's for it, and `given`
    are the log-probabilities of its prompt's tokens but the first, where it asks for them.
    """

    acts: tuple[Act, ...] = ()
    known: Mapping[int, Tensor] = field(default_factory=dict)
    pending: Sequence[float] = ()
    read: int = -1
    begun: int = 0
    held: Any = None
    reads: tuple[int, ...] = ()
    ended: bool = False
    name: str = ""
    given: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        heads: tuple[Head, ...] = self.request.heads
        self.reads = tuple({*self.request.taps, *(head.layer for head in heads)})

    def span(self, at: int, first: int, count: int) -> Span:
        """Its next tokens, from flat place `at`; its stream is told what was cached before the first."""
        if self.read < 0:
            self.read = first
            self.stream.reused = min(first, self.boundary)
            for layer in self.request.taps if first else ():
                self.stream.tap(layer, self.known[layer][:first])
        return Span(self, at, first, count, first + count >= len(self.tokens))

    def keep(self, seen: Any, taps: list[int] | slice, dtype: torch.dtype, span: Span, first: int) -> None:
        """Copy a span's states out of those of the pass, [L, N, bytes] (NumPy), of which `taps` are its own.
        `first` is the place of its first token in the row; what was read before is there (the row was put
        off, and begins again).
        """
        if self.held is None:
            most, self.begun = len(self.tokens) + self.limit - 1 - self.read, self.read
            states = torch.empty(len(self.request.taps), most, seen.shape[2], dtype=torch.uint8)
            self.stream.hold(states.view(dtype))
            self.held = states.numpy()
        new = first + span.count - self.read
        if new <= 0:
            return
        begin, end = self.read - self.begun, span.at + span.count
        self.held[:, begin : begin + new] = seen[taps, end - new : end]
        self.stream.hold_more(new)
        self.read += new

    def accept(self, token: int, logprob: float, readings: Sequence[float] = ()) -> None:
        """Take a drawn token; a reading is over with its first."""
        if not isinstance(self.request, Reading):
            super().accept(token, logprob, readings)
        elif math.isfinite(logprob):
            self.stream.put(TokenEvent(token, "", logprob, "length"))
        else:
            self.stream.fail(overflow(f"the token after {len(self.tokens)} has log-probability {logprob}"))
