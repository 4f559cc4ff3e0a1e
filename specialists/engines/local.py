"""What engines that run models themselves share: the words and checks of the contract, and the queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from ...router.fingerprint import require
from ...router.steer.vector import SteeringVector
from ...store.errors import UsageError
from ...store.records import Message
from ..card import Card
from ..family import Family
from ..tokenizing import ChatCodec
from .base import Capacity, NotOffered, Prefill, Request, Sampling
from .rowbatch import TRUNK, RowBatch, Shape
from .scheduler import Scheduler
from .stream import Stream

M = TypeVar("M", bound=Shape)


class LocalEngine(ABC, Generic[M]):
    """An engine over a batch of rows and its scheduler. A subclass sets the attributes, and says how it loads
    specialists, what it refuses, and how it reads a given answer.
    """

    family: Family
    codec: ChatCodec
    capacity: Capacity
    _batch: RowBatch[M, Any]
    _scheduler: Scheduler[Any]

    @abstractmethod
    def _load_specialist(self, card: Card) -> None:
        """Load what an adapter or a student needs, if it is not there yet."""

    @abstractmethod
    def _check(self, request: Request, model: M) -> None:
        """Refuse what this model cannot do: its layers, widths and tokens."""

    @abstractmethod
    def _given(
        self,
        prefill: Prefill,
        specialist: str,
        answer: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector],
    ) -> tuple[float, dict[int, Tensor]]:
        """The mean log-probability of an answer, and its states {layer: [A, D]}."""

    @property
    def load(self) -> tuple[int, int, int]:
        """How many requests are being answered, how many wait, and how many bytes of cache are reserved."""
        return self._scheduler.load

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the tokens of a conversation up to its last turn's end."""
        return self.codec.encode_chat(messages)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer, end token included."""
        return self.codec.encode_answer(text)

    # -- answer --------------------------------------------------------------------------------------------

    def generate(
        self,
        prefill: Prefill,
        specialist: str,
        sampling: Sampling,
        vectors: Sequence[SteeringVector] = (),
    ) -> Stream:
        """Answer with a specialist; closing the stream cancels, and leaves nothing behind. Waits while the
        queue is full.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: it cannot be run, or cannot be steered by these vectors.
        """
        request = Request(prefill.tokens, specialist, sampling, tuple(vectors), prefill=prefill)
        return self.submit(request, wait=None)

    def submit(self, request: Request, wait: float | None = 0.0) -> Stream:
        """Take a request into the batch; see `BatchEngine.submit`."""
        return self.submit_all((request,), wait)[0]

    def submit_all(self, requests: Sequence[Request], wait: float | None = 0.0) -> list[Stream]:
        """Take several requests at one moment; see `BatchEngine.submit_all`."""
        return self._scheduler.submit([(one, self._memory(one)) for one in requests], wait)

    def _memory(self, request: Request) -> int:
        """Bytes of cache that a request may need. Raises as `BatchEngine.submit` where it must be refused."""
        self._ready(request.specialist, request.vectors)
        model = self._batch.model_of(request)
        self._fits(request.tokens, repr(request.specialist), model)
        self._check(request, model)
        limit, memory = self._batch.limit(request, model), self._batch.memory(request, model)
        if memory > self.capacity.memory:
            raise UsageError(
                f"{len(request.tokens)} prompt and {limit} answer tokens need {memory >> 10} KiB of "
                f"cache, this engine has {self.capacity.memory >> 10} KiB: shorten them, or raise that"
            )
        return memory

    def _fits(self, tokens: Sequence[int], who: str = "this family", model: M | None = None) -> None:
        """Refuse a prompt that is empty, or leaves no room for an answer."""
        context = (model or self._batch.models[TRUNK]).context
        room = context - len(self.codec.invocation) - 1
        if not 0 < len(tokens) <= room:
            raise UsageError(f"the prompt has {len(tokens)} tokens; {who} reads 1 to {room}: shorten it")

    def _ready(self, name: str, vectors: Sequence[SteeringVector]) -> Card:
        """Load what a specialist needs.

        Raises:
            NotFoundError: there is no such specialist.
            UsageError: it cannot be run here, or not be steered by these vectors.
            ArtifactError: a file is damaged, or a vector or adapter was made for another model.
        """
        card = self.family.card(name)
        if card.kind == "cards":
            raise UsageError(
                f"specialist {name!r} answers from the cards and runs no model: nothing to generate"
            )
        if card.kind == "remote":
            raise NotOffered(f"specialist {name!r} runs elsewhere: ask the remote engine for its answer")
        if card.kind == "student" and vectors:
            names = ", ".join(vector.name for vector in vectors)
            raise NotOffered(
                f"{name!r} is a student with its own weights, which {names} were not made for: unsteer it"
            )
        for vector in vectors:
            require(vector.fingerprint, self.family.trunk_fingerprint, f"steering vector {vector.name!r}")
        self._load_specialist(card)
        return card

    # -- given answers -------------------------------------------------------------------------------------

    def score(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> float:
        """Return the mean log-probability (nats per token) that a specialist gives to an answer.

        Raises:
            UsageError: the answer is empty.
        """
        return self._given(prefill, specialist, _some(answer_tokens), (), vectors)[0]

    def states(
        self,
        prefill: Prefill,
        specialist: str,
        answer_tokens: Sequence[int],
        layers: Sequence[int],
        vectors: Sequence[SteeringVector] = (),
    ) -> dict[int, Tensor]:
        """Return the residual stream [A, D] at each of the answer's tokens, per layer, as that specialist.

        Raises:
            UsageError: the answer is empty, or a layer does not exist.
        """
        return self._given(prefill, specialist, _some(answer_tokens), layers, vectors)[1]


def _some(answer: Sequence[int]) -> Sequence[int]:
    if not answer:
        raise UsageError("the answer has no tokens: there is nothing to score")
    return answer
