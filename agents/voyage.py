"""What the nodes work with: the ship (one family, ready to answer) and one voyage (one request under way)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..store.records import Artifact, Message, Part, Request, Status, new_id
from .answer import Answer, Event

if TYPE_CHECKING:
    from ..router.policy import Policy
    from ..router.scout import Scout, ScoutReading
    from ..router.steer.vector import SteeringVector
    from ..specialists.card import Card
    from ..specialists.engines.base import Engine, Prefill
    from ..specialists.engines.remote import RemoteEngine

Turns = tuple[Message, ...]
T = TypeVar("T")


class Log(Protocol):
    """What the controller needs of a ledger. `keep_text` says whether texts may be kept at all."""

    keep_text: bool

    def begin_soon(
        self, request: Request, *, record_id: str | None = None, parent_id: str | None = None
    ) -> Future[str]:
        """Write that the request arrived; the future answers once that is on disk."""

    def finish_soon(
        self,
        record_id: str,
        status: Status,
        *,
        parts: Sequence[Part] = (),
        answer: str | None = None,
        artifacts: Sequence[Artifact] = (),
        error: str | None = None,
    ) -> Future[int]:
        """Write how it ended; the future answers once that is on disk."""


class Unlogged:
    """A log that keeps nothing (`--no-log`): its futures answer at once, and its records have no id."""

    keep_text = False

    def begin_soon(
        self, request: Request, *, record_id: str | None = None, parent_id: str | None = None
    ) -> Future[str]:
        """Keep nothing."""
        return _done(record_id or "")

    def finish_soon(self, record_id: str, status: Status, **_: Any) -> Future[int]:
        """Keep nothing."""
        return _done(0)

    def close(self) -> None:
        """Nothing to close."""


def _done(answer: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(answer)
    return future


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    `hops` is how many times one part may escalate; `min_mean_logprob` (nats a token) is below what even a
    wrong greedy answer of a specialist in its own field has, and so marks an answer out of its field.
    """

    parts: int = 6
    hops: int = 2
    min_mean_logprob: float = -2.0
    prompt_characters: int = 20_000
    features: int = 8


@dataclass(frozen=True)
class Steer:
    """The caller's word on steering: `off` drops the policy's entries, `extra` adds or replaces by name."""

    off: bool = False
    extra: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """What the caller wants, before the conversation is added.

    `use_history`: what the thread remembers goes before the turns. `remember`: the thread remembers this too.
    `person`: whose request it is, in the caller's words; the log can forget a person.
    """

    turns: Turns
    thread_id: str
    specialist: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    steer: Steer = Steer()
    parent_id: str | None = None
    use_history: bool = True
    remember: bool = True
    person: str | None = None


@dataclass(frozen=True)
class Ship:
    """One family with its instruments, ready to answer. Shared by all requests; never changed by one.

    A family without probes has neither scout nor policy: its `fallback` answers everything.
    """

    engine: Engine
    scout: Scout | None
    policy: Policy | None
    cards: Mapping[str, Card]
    vectors: Mapping[str, SteeringVector]
    layers: tuple[int, ...]
    context: int
    artifacts: tuple[Artifact, ...]
    log: Log
    fallback: str | None = None
    limits: Limits = Limits()
    remotes: RemoteEngine | None = None


@dataclass
class Live:
    """Tensors of one part: too large and too short-lived for the graph's state."""

    messages: Turns
    tokens: tuple[int, ...]
    prefill: Prefill
    reading: ScoutReading | None
    prefill_ms: float = 0.0
    probe_ms: float = 0.0
    turn: int = 0  # the token at which the last turn begins


@dataclass
class Voyage:
    """One request under way: the graph's runtime context.

    `parts` holds the newest state of every part, so that a request cut short can still be recorded.
    `conversation` is all turns up to the prompt; `history` those before it that the trunk has room to read.
    `stepwise`: each node of a part is a super-step of the graph, for whoever watches or interrupts those.
    """

    ship: Ship
    ask: Ask
    emit: Callable[[Event], None] | None = None
    stepwise: bool = False
    record_id: str = field(default_factory=new_id)
    cancelled: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.perf_counter)
    conversation: Turns = ()
    history: Turns = ()
    request: Request | None = None
    opened: Future[str] | None = None
    closed: bool = False
    log_ms: float = 0.0
    live: dict[int, Live] = field(default_factory=dict)
    parts: dict[int, Part] = field(default_factory=dict)
    answer: Answer | None = None

    @property
    def logged(self) -> bool:
        """Whether a row is kept of this request."""
        return not isinstance(self.ship.log, Unlogged)

    def wait_opened(self) -> None:
        """Wait until the opening row is on disk; nothing may be generated before. Raises StoreError."""
        if self.opened is not None:
            begun = time.perf_counter()
            self.opened.result()
            self.log_ms += milliseconds_since(begun)

    def stop_if_cancelled(self) -> None:
        """Raise Cancelled when the caller has gone."""
        if self.cancelled.is_set():
            raise Cancelled


class Cancelled(Exception):
    """The caller stopped waiting."""


def milliseconds_since(begun: float) -> float:
    """Milliseconds since a `time.perf_counter` moment."""
    return max(0.0, (time.perf_counter() - begun) * 1e3)
