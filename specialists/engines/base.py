"""The contract of every engine: encode, probe, generate, score; events stream out, closing the stream
cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ...store.errors import UsageError
from ...store.records import Message

if TYPE_CHECKING:
    from torch import Tensor

    from ...router.steer.vector import SteeringVector

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens: `temperature` 0 is greedy; `stop` are texts that end the answer and are not part of
    it.

    The same seed, prompt, specialist and steering draw the same tokens.

    Raises:
        UsageError: a value is out of range.

    """

    temperature: float = 0.0
    max_tokens: int = 256
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 100.0:
            raise UsageError(f"temperature {self.temperature} is out of range: give 0 (greedy) to 100")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens is {self.max_tokens}: an answer needs at least 1 token")


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


@dataclass(frozen=True)
class TokenEvent:
    """One drawn token: the text that became certain with it (often empty), and its log-probability in nats.

    `finish_reason` is set on the last event only: `stop` for an end token (its text is what was still held
    back) or a stop text, `length` for the token limit.
    """

    token: int
    text: str
    logprob: float
    finish_reason: Finish | None = None


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
