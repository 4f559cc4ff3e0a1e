"""The way in for Python: `Pilot` answers prompts with a family of specialists, and logs every answer."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..store.errors import NotFoundError, PilothouseError, UsageError
from ..store.records import Message, new_id
from .answer import Answer, Event, Restart
from .release import Release
from .voyage import Ask, Cancelled, Limits, Log, Ship, Steer, Turns, Voyage

if TYPE_CHECKING:
    from ..router.policy import Policy
    from ..specialists.engines.base import Engine
    from ..specialists.family import Family
    from .causal import Why
    from .controller import Graph

logger = logging.getLogger(__name__)
Prompt = str | Sequence[Message | Mapping[str, str]]


class AnswerError(PilothouseError):
    """Answering failed for a reason that has no name of its own; the record says `failed`."""


class Pilot:
    """Answers prompts. Use it in a `with` statement, or call `close`. Safe to use from several threads.

    Nothing is loaded before the first prompt (or `warm`). `family` is a name, a folder, or an open Family.
    `ledger`, `engine` and `threads` (a LangGraph checkpointer) are opened here unless given; what is given is
    not closed here. `ledger=Unlogged()` keeps nothing at all; with `keep_text` off, the log opened here keeps
    digests of the texts only. `policy` replaces the family's.
    """

    def __init__(
        self,
        family: str | Path | Family = "starter",
        ledger: Log | None = None,
        engine: Engine | None = None,
        policy: Policy | None = None,
        *,
        threads: Any = None,
        device: str = "auto",
        cores: int | None = None,
        max_tokens: int = 256,
        limits: Limits | None = None,
        keep_text: bool = True,
    ) -> None:
        self._family, self._ledger, self._engine, self._policy = family, ledger, engine, policy
        self._threads, self._device, self._cores = threads, device, cores
        self._max_tokens, self._limits = max_tokens, limits or Limits()
        self._keep_text = keep_text
        self._opening = threading.RLock()
        self._owned: list[Any] = []
        self._ready: tuple[Ship, Graph] | None = None

    # -- opening -----------------------------------------------------------------------------------------

    @property
    def ship(self) -> Ship:
        """The opened family with its instruments (loads it)."""
        return self._open()[0]

    def warm(self) -> Self:
        """Load now what the first prompt would load.

        Raises NotFoundError for an unknown family, ArtifactError for a damaged one, StoreError for a log that
        cannot be opened.
        """
        self._open()
        return self

    def _open(self) -> tuple[Ship, Graph]:
        with self._opening:
            if self._ready is None:
                from .opening import open_graph, open_ship

                ship = open_ship(
                    self._family,
                    self._ledger,
                    self._engine,
                    self._policy,
                    device=self._device,
                    cores=self._cores,
                    limits=self._limits,
                    keep_text=self._keep_text,
                    owned=self._owned,
                )
                self._ready = ship, open_graph(ship, self._threads, self._owned)
            return self._ready

    # -- asking ------------------------------------------------------------------------------------------

    def ask(
        self,
        prompt: Prompt,
        thread_id: str | None = None,
        specialist: str | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        *,
        steer: Steer | None = None,
        parent_id: str | None = None,
    ) -> Answer:
        """Answer a prompt, or the last of several messages. A thread id goes on with that conversation.

        Messages, when given, are the whole conversation and replace what the thread remembers. Raises
        UsageError for a prompt that is empty or too long, NotFoundError for an unknown specialist, StoreError
        when the log cannot be written, AnswerError when the engine fails.
        """
        ask = self._asked(prompt, thread_id, specialist, max_tokens, temperature, seed, steer, parent_id)
        for item in self._run(ask, streaming=False, settled=True):
            if isinstance(item, Answer):
                return item
        raise AnswerError("the controller ended without an answer; please report this")

    def stream(
        self,
        prompt: Prompt,
        thread_id: str | None = None,
        specialist: str | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        *,
        steer: Steer | None = None,
        parent_id: str | None = None,
        settled: bool = False,
    ) -> Iterator[str | Restart | Answer]:
        """Like `ask`, giving the text piece by piece and the Answer last.

        A `Restart` withdraws what was given of one part, whose check failed; with `settled`, text comes only
        once it is checked, and nothing is withdrawn. The last piece comes after the row is on disk.
        Closing the iterator stops the answer and records it as aborted.
        """
        ask = self._asked(prompt, thread_id, specialist, max_tokens, temperature, seed, steer, parent_id)
        return self._run(ask, streaming=True, settled=settled)

    def _asked(
        self,
        prompt: Prompt,
        thread_id: str | None,
        specialist: str | None,
        max_tokens: int | None,
        temperature: float,
        seed: int,
        steer: Steer | None,
        parent_id: str | None,
    ) -> Ask:
        if not 0.0 <= temperature <= 100.0:
            raise UsageError(f"temperature {temperature} is out of range; give 0 (greedy) to 100")
        if thread_id is not None and not 0 < len(thread_id) <= 255:
            raise UsageError(f"the thread id has {len(thread_id)} characters; it must have 1 to 255")
        longest = self._max_tokens if max_tokens is None else max_tokens
        if longest < 1:
            raise UsageError(f"max_tokens is {longest}; an answer needs at least 1 token")
        return Ask(
            turns=turns_from(prompt, self._limits.prompt_characters),
            thread_id=thread_id or new_id(),
            specialist=specialist,
            max_tokens=longest,
            temperature=temperature,
            seed=seed,
            steer=steer or Steer(),
            parent_id=parent_id,
            use_history=isinstance(prompt, str),
        )

    def _run(self, ask: Ask, *, streaming: bool, settled: bool) -> Iterator[str | Restart | Answer]:
        ship, graph = self._open()
        known_specialist(ship, ask.specialist)
        events: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
        voyage = Voyage(ship, ask, emit=events.put if streaming else _nowhere)
        # The graph has a thread of its own: an interrupt then stops the waiting here, never a node half way.
        worker = threading.Thread(
            target=_work, args=(graph, voyage, events), daemon=True, name="pilothouse-answer"
        )
        worker.start()
        release = Release(settled)
        try:
            while (event := events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield from release.feed(event)
            worker.join()
        except BaseException as error:
            voyage.cancelled.set()
            worker.join()
            _close_row(voyage, error)
            if isinstance(error, Exception) and not isinstance(error, PilothouseError | Cancelled):
                raise AnswerError(_failure(voyage, error)) from error
            raise
        if last := release.last():
            yield last
        assert voyage.answer is not None, "the record node fills it"
        yield voyage.answer

    # -- conversations -----------------------------------------------------------------------------------

    def history(self, thread_id: str) -> Turns:
        """The conversation that a thread remembers; empty for a new one."""
        from .controller import turns_of
        from .threads import config_of

        _, graph = self._open()
        return turns_of(graph.get_state(config_of(thread_id)).values.get("turns") or [])

    def remember(self, thread_id: str, turns: Turns) -> None:
        """Make `turns` what the thread remembers."""
        from .controller import pairs_of
        from .threads import config_of

        _, graph = self._open()
        graph.update_state(config_of(thread_id), {"turns": pairs_of(turns), "parts": None}, as_node="record")

    def undo(self, thread_id: str) -> Turns:
        """Forget the last exchange of a thread (the log keeps its rows); return what was forgotten."""
        turns = self.history(thread_id)
        last = next((at for at in reversed(range(len(turns))) if turns[at].role == "user"), None)
        if last is None:
            return ()
        self.remember(thread_id, turns[:last])
        return turns[last:]

    def resume(self, thread_id: str) -> Turns:
        """The conversation of a thread, taken from the log where the conversations' file lacks it.

        Raises NotFoundError when neither knows the thread.
        """
        turns = self.history(thread_id)
        if not turns:
            from .opening import turns_in_log

            turns = turns_in_log(self.ship.log, thread_id)
            self.remember(thread_id, turns)
        return turns

    # -- explaining --------------------------------------------------------------------------------------

    def why(self, record_id: str = "last", causal: bool = False) -> Why:
        """Explain a record from the log; with `causal`, ablate its top features in the scout and route again.

        Raises NotFoundError when there is no such record.
        """
        from .causal import explain, read_page

        ledger = self._ledger if self._ready is None else self.ship.log
        return explain(read_page(ledger, record_id), self.ship if causal else None)

    def close(self) -> None:
        """Close what was opened here. A second call does nothing."""
        with self._opening:
            while self._owned:
                self._owned.pop().close()
            self._ready = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _nowhere(event: Event) -> None:
    """Where pieces go when only the whole answer is wanted."""


def _work(graph: Graph, voyage: Voyage, events: queue.SimpleQueue[Event | BaseException | None]) -> None:
    from .controller import RECURSION_LIMIT
    from .threads import config_of

    config = config_of(voyage.ask.thread_id, recursion_limit=RECURSION_LIMIT)
    try:
        graph.invoke({}, config, context=voyage, durability="exit")
    except BaseException as error:
        if not voyage.closed or isinstance(error, Cancelled):
            events.put(error)
            return
        # the answer is on record and whole: only the thread's memory of it is lost
        logger.warning("the conversation could not be kept: %s", error)
    events.put(None)


def _close_row(voyage: Voyage, error: BaseException) -> None:
    """Finish the row of a request that did not end well, with what was made of it."""
    if voyage.opened is None or voyage.closed:
        return
    from .nodes.record import compose

    failed = isinstance(error, Exception) and not isinstance(error, Cancelled)
    parts = [voyage.parts[index] for index in sorted(voyage.parts)]
    with suppress(PilothouseError):  # the log itself may be what failed; the first error is the one to tell
        voyage.opened.result()
        voyage.ship.log.finish_soon(
            voyage.record_id,
            "failed" if failed else "aborted",
            parts=parts,
            answer=compose(parts) or None,
            artifacts=voyage.ship.artifacts,
            error=f"{type(error).__name__}: {error}" if failed else None,
        ).result()
        voyage.closed = True


def _failure(voyage: Voyage, error: Exception) -> str:
    where = f"; see `pilothouse log show {voyage.record_id}`" if voyage.logged and voyage.closed else ""
    return f"answering failed ({type(error).__name__}: {error}){where}"


def turns_from(prompt: Prompt, limit: int) -> Turns:
    """Read a prompt or messages. Raises UsageError when there is nothing to answer, or too much."""
    if isinstance(prompt, str):
        turns: Turns = (Message(role="user", content=prompt),)
    else:
        try:
            turns = tuple(m if isinstance(m, Message) else Message.model_validate(dict(m)) for m in prompt)
        except (ValueError, TypeError) as error:
            raise UsageError(
                "messages cannot be read; give each a role (system, user or assistant) and a content text"
            ) from error
    if not turns or turns[-1].role != "user" or not turns[-1].content.strip():
        raise UsageError("the prompt is empty; write what you want to know")
    longest = max(len(turn.content) for turn in turns)
    if longest > limit:
        raise UsageError(f"the prompt has {longest:,} characters; at most {limit:,} are read, so shorten it")
    return turns


def known_specialist(ship: Ship, name: str | None) -> None:
    """Raise NotFoundError, naming the nearest, unless the family has the specialist."""
    if name is None or name in ship.cards:
        return
    from difflib import get_close_matches

    near = get_close_matches(name, ship.cards, n=1)
    hint = f" did you mean {near[0]}?" if near else ""
    raise NotFoundError(f"there is no specialist {name!r};{hint} the family has {', '.join(ship.cards)}")
