"""The contract of every engine: encode, probe, generate, score, and for batching engines `submit`.

A request carries everything that makes its answer: tokens, specialist, sampling with its seed, steering, taps
and heads. Nothing of it may depend on what else is in the batch, and nothing of it may outlive it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...store.errors import PilothouseError, UsageError
from ...store.plugins import Group
from ...store.records import Message

if TYPE_CHECKING:
    from torch import Tensor

    from ...router.steer.vector import SteeringVector
    from .stream import Stream

Finish = Literal["stop", "length"]
ReadAt = Literal["prompt", "token", "end"]
ENGINES = Group("pilothouse.engines", "engine")

# -- what goes wrong ---------------------------------------------------------------------------------------


class EngineBusy(PilothouseError):
    """The engine's queue is full; the request was not taken and may be sent again."""


class EngineClosed(PilothouseError):
    """The engine was closed, or its process died, before the answer was complete."""


class RequestFailed(PilothouseError):
    """One request could not go on (its numbers overflowed, say); the others of its batch are untouched."""


class NotOffered(UsageError):
    """The engine cannot do what the request asks: steer, tap, read heads, or run this specialist."""


# -- what is asked -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens: `temperature` 0 is greedy; `stop` are texts that end the answer and are not part of
    it.

    `repetition` divides positive logits (multiplies negative ones) of tokens that the prompt or the answer
    holds (Keskar et al., 2019; 1 is off). Then come the temperature, `top_k` (0 is off) and `top_p` (1 is
    off). The same seed, prompt, specialist and steering draw the same tokens: token n is drawn with the
    number `sampling.uniform(seed, n)`, whatever else is in the batch.

    Raises:
        UsageError: a value is out of range.

    """

    temperature: float = 0.0
    max_tokens: int = 256
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_p: float = 1.0
    top_k: int = 0
    repetition: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 100.0:
            raise UsageError(f"temperature {self.temperature} is out of range: give 0 (greedy) to 100")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens is {self.max_tokens}: an answer needs at least 1 token")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p {self.top_p} is out of range: give more than 0, at most 1 (off)")
        if self.top_k < 0:
            raise UsageError(
                f"top_k {self.top_k} is out of range: give 0 (off) or the number of tokens to keep"
            )
        if not 0.0 < self.repetition <= 100.0:
            raise UsageError(f"repetition {self.repetition} is out of range: give 1 (off) to 100")


@dataclass(frozen=True, eq=False)
class Prefill:
    """A prompt that was read: its tokens, and what the engine keeps to go on from there.

    `states` holds, per tapped layer, the residual stream [T, D] of the bare trunk on the CPU. `milliseconds`
    is the time that reading took. `reused` counts tokens that an earlier prefill had read already. `handle`
    is the engine's.
    """

    tokens: tuple[int, ...]
    states: Mapping[int, Tensor] = field(default_factory=dict)
    milliseconds: float = 0.0
    reused: int = 0
    handle: Any = None


@dataclass(frozen=True, eq=False)
class Head:
    """A linear read-out inside the forward pass: weight [D] . x + bias.

    x is the residual stream after decoder layer `layer`, as this request's specialist and steering leave it.
    `at` says where: `prompt`, once, at the prompt's last token; `token`, wherever a token is drawn from;
    `end`, once, where the last token was drawn from. Names are unique within a request.
    """

    name: str
    layer: int
    weight: Tensor
    bias: float = 0.0
    at: ReadAt = "token"


@dataclass(frozen=True, eq=False)
class Request:
    """One answer to be generated. `tokens` are a prompt as `encode_chat` gives it; the engine adds the
    invocation.

    The bare trunk reads the prompt, steered by vectors of scope `prompt` and `both`. The specialist, and
    vectors of scope `generation` and `both`, act from the invocation on. A student reads everything itself,
    unsteered.

    `vectors` steer it, in this order where a layer has several. `taps` are layers whose residual stream is
    kept at every token that is read (`Stream.states`). `prefill` may be a reading of exactly these tokens by
    the same engine; what it holds is not read again where steering allows. `reuse` False reads every token
    anew.

    Raises:
        UsageError: there are no tokens, a layer is tapped twice, or two heads share a name.
    """

    tokens: tuple[int, ...]
    specialist: str
    sampling: Sampling = Sampling()
    vectors: tuple[SteeringVector, ...] = ()
    taps: tuple[int, ...] = ()
    heads: tuple[Head, ...] = ()
    prefill: Prefill | None = None
    reuse: bool = True

    def __post_init__(self) -> None:
        if not self.tokens:
            raise UsageError("the request has no tokens: encode a conversation first")
        names = [head.name for head in self.heads]
        if len(set(names)) < len(names) or len(set(self.taps)) < len(self.taps):
            raise UsageError(f"heads {names} and taps {list(self.taps)}: name each head and each layer once")
        if self.prefill is not None and self.prefill.tokens != self.tokens:
            raise UsageError(
                "the prefill is of other tokens than the request's: probe these, or leave it out"
            )

    @property
    def reads_steered(self) -> bool:
        """Whether its steering changes how the prompt is read; its prefix is then nobody else's."""
        return any(vector.scope != "generation" for vector in self.vectors)


@dataclass(frozen=True)
class Capacity:
    """What a batching engine takes on: `rows` answers at once, `waiting` requests in its queue, `chunk`
    prompt tokens in one step (so that a long prompt does not stop the others), `memory` bytes of key-value
    cache.

    A request reserves its longest possible cache when its row opens. One that could never fit `memory` is
    refused at once; one that does not fit now waits.
    """

    rows: int = 16
    waiting: int = 256
    chunk: int = 256
    memory: int = 1 << 31

    def __post_init__(self) -> None:
        if min(self.rows, self.waiting, self.chunk, self.memory) < 1:
            raise UsageError(f"{self}: every capacity must be at least 1")


# -- what comes back ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenEvent:
    """One drawn token: the text that became certain with it (often empty), and its log-probability in nats.

    The log-probability is the model's own, at temperature 1 and before any filter. `readings` are the logits
    of the request's `token` heads, in their order. `finish_reason` is set on the last event only: `stop` for
    an end token (its text is what was still held back) or a stop text, `length` for the token limit.
    """

    token: int
    text: str
    logprob: float
    finish_reason: Finish | None = None
    readings: tuple[float, ...] = ()


class Engine(Protocol):
    """Runs the trunk and the specialists of one family. Safe to call from several threads."""

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to its last turn's end; nothing in it becomes a special
        token.
        """

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer, end token included, as `score` and `states` take them."""

    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        """Read a prompt with the bare trunk and tap `layers`.

        Raises:
            UsageError: the prompt is empty, or leaves no room for an answer.
        """

    def generate(
        self,
        prefill: Prefill,
        specialist: str,
        sampling: Sampling,
        vectors: Sequence[SteeringVector] = (),
    ) -> Iterator[TokenEvent]:
        """Answer with a specialist, steered by `vectors`; closing the iterator cancels. `prefill` stays
        usable.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: it cannot be run, or cannot be steered by these vectors.

        """

    def score(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> float:
        """Return the mean log-probability (nats per token) that a specialist gives to an answer."""

    def states(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> dict[int, Tensor]:
        """Return the residual stream [A, D] at each of the answer's tokens, per layer, as that specialist."""

    def close(self) -> None:
        """Give back memory; the engine is not used afterwards."""


class BatchEngine(Engine, Protocol):
    """An engine that answers many requests in one batch, each with its own specialist, steering and taps."""

    def submit(self, request: Request, wait: float | None = 0.0) -> Stream:
        """Take a request and return its stream at once; the answer is generated whether or not it is read.

        What can be known to be wrong is refused here. What goes wrong later (an overflow, a lost process) is
        raised by the stream and ends that request alone. A full queue is waited for up to `wait` seconds,
        without end if it is None.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: the prompt leaves no room for an answer or can never fit the memory, a layer does not
                exist, a vector or head has another width, or the specialist cannot be run or steered so
                (`NotOffered` where another engine could).
            ArtifactError: a vector or the adapter was made for another model.
            EngineBusy: the queue stayed full.
            EngineClosed: the engine is closed.
        """

    def submit_all(self, requests: Sequence[Request], wait: float | None = 0.0) -> list[Stream]:
        """Take several requests at one moment, all or none: they join the batch in the same pass, as far as
        rows and memory allow. Raises as `submit`.
        """
