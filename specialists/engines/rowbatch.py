"""What batches of rows share: which model answers, what it may come to need, and who reads how much now."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Generic, Protocol, TypeVar

from ..tokenizing import ChatCodec
from .base import Capacity, Request
from .prefixes import Prefixes
from .row import Row

TRUNK = ""
REMEMBERED = 8


class Shape(Protocol):
    """What a batch asks of a model."""

    @property
    def context(self) -> int:
        """The most tokens, prompt and answer together."""

    @property
    def bytes_a_token(self) -> int:
        """Memory of one token's keys and values."""


M = TypeVar("M", bound=Shape)
R = TypeVar("R", bound=Row)


class RowBatch(Generic[M, R]):
    """Models {name: model}, which grow as students are loaded, and prompts that were read, for those that
    begin alike.
    """

    def __init__(self, codec: ChatCodec, capacity: Capacity) -> None:
        self.codec, self.capacity = codec, capacity
        self.models: dict[str, M] = {}
        self.prefixes = Prefixes(REMEMBERED, capacity.memory // 4)
        self._serials = count(1)

    def name_of(self, request: Request) -> str:
        """Whose model answers: a student's own, else the trunk."""
        return request.specialist if request.specialist in self.models else TRUNK

    def model_of(self, request: Request) -> M:
        """The model that answers."""
        return self.models[self.name_of(request)]

    def tokens(self, request: Request) -> list[int]:
        """What is read before the first token is drawn."""
        return [*request.tokens, *self.codec.invocation]

    def limit(self, request: Request, model: M) -> int:
        """The most tokens that the answer may have; below 1 where the prompt leaves no room."""
        return min(request.sampling.max_tokens, model.context - len(self.tokens(request)))

    def room(self, request: Request, model: M) -> int:
        """The most tokens of cache that the request may come to need."""
        return len(self.tokens(request)) + self.limit(request, model)

    def memory(self, request: Request, model: M) -> int:
        """Bytes of cache that the request may come to need."""
        return model.bytes_a_token * self.room(request, model)

    def shared_out(self, rows: Sequence[R], most: int) -> list[tuple[R, int]]:
        """Which rows read how many tokens now: answers one, prompts a share of `most`, oldest first."""
        left, work = most, []
        for row in sorted(rows, key=lambda row: row.serial):
            tokens = row.unread if row.drawn else min(row.unread, left)
            if not row.drawn:
                left -= tokens
            if tokens:
                work.append((row, tokens))
        return work
