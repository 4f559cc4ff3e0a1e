"""The way in for Python: `Pilot` answers prompts with a family of specialists, and logs every answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, Unpack

from ..store.errors import NotFoundError, UsageError
from ..store.records import Message, Outcome, new_id
from .answer import Answer, Restart
from .options import Options
from .passage import AnswerError, Item, Passage
from .voyage import Ask, Limits, Log, Ship, Steer, Turns

if TYPE_CHECKING:
    from ..router.policy import Policy
    from ..specialists.engines.base import Engine
    from ..specialists.family import Family
    from ..store.payloads import Redact
    from ..store.sinks import Sink
    from .causal import Why
    from .controller import Graph
    from .course import Course

__all__ = ["AnswerError", "Pilot", "Prompt", "known_specialist", "turns_from"]
Prompt = str | Sequence[Message | Mapping[str, str]]


class _Ready(NamedTuple):
    """What is open: `forgetful` is the graph for requests that their threads shall not remember."""

    ship: Ship
    graph: Graph
    forgetful: Graph


class Pilot:
    """Answers prompts. Use it in a `with` statement, or call `close`. Safe to use from several threads.

    Nothing is loaded before the first prompt (or `warm`). `family` is a name, a folder, or an open Family.
    `ledger`, `engine` and `threads` (a LangGraph checkpointer) are opened here unless given; what is given is
    not closed here. `engine` may also be the name of one: auto, native, torch, vllm, or a package's.
    `ledger=Unlogged()` keeps nothing at all; with `keep_text` off, the log opened here keeps digests of the
    texts only, `redact` changes every text before it is written (see `pilothouse.store.redact`), and `sinks`
    are told of every closed record (see `pilothouse.store.sinks`). `policy` replaces the family's.
    """

    def __init__(
        self,
        family: str | Path | Family = "starter",
        ledger: Log | None = None,
        engine: Engine | str | None = None,
        policy: Policy | None = None,
        *,
        threads: Any = None,
        device: str = "auto",
        cores: int | None = None,
        max_tokens: int = 256,
        limits: Limits | None = None,
        keep_text: bool = True,
        redact: Redact | None = None,
        sinks: Sequence[str | Sink] = (),
    ) -> None:
        self._family, self._ledger, self._engine, self._policy = family, ledger, engine, policy
        self._threads, self._device, self._cores = threads, device, cores
        self._max_tokens, self._limits = max_tokens, limits or Limits()
        self._keep_text, self._redact, self._sinks = keep_text, redact, sinks
        self._opening = threading.RLock()
        self._owned: list[Any] = []
        self._ready: _Ready | None = None

    # -- opening -----------------------------------------------------------------------------------------

    @property
    def ship(self) -> Ship:
        """The opened family with its instruments (loads it)."""
        return self._open().ship

    @property
    def is_open(self) -> bool:
        """Whether everything is loaded."""
        return self._ready is not None

    def warm(self) -> Self:
        """Load now what the first prompt would load.

        Raises NotFoundError for an unknown family, ArtifactError for a damaged one, StoreError for a log that
        cannot be opened.
        """
        self._open()
        return self

    def _open(self) -> _Ready:
        with self._opening:
            if self._ready is None:
                from .controller import build_graph
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
                    redact=self._redact,
                    sinks=self._sinks,
                    owned=self._owned,
                )
                graph = open_graph(ship, self._threads, self._owned)
                self._ready = _Ready(ship, graph, build_graph(None))
            return self._ready

    # -- asking ------------------------------------------------------------------------------------------

    def ask(
        self,
        prompt: Prompt,
        thread_id: str | None = None,
        specialist: str | None = None,
        **options: Unpack[Options],
    ) -> Answer:
        """Answer a prompt, or the last of several messages. A thread id goes on with that conversation.

        Messages, when given, are the whole conversation and replace what the thread remembers. Raises
        UsageError for a prompt that is empty or too long, NotFoundError for an unknown specialist, StoreError
        when the log cannot be written, AnswerError when the engine fails.
        """
        items = self.run(self.asked(prompt, thread_id, specialist, **options), streaming=False, settled=True)
        return next(item for item in items if isinstance(item, Answer))

    def stream(
        self,
        prompt: Prompt,
        thread_id: str | None = None,
        specialist: str | None = None,
        *,
        settled: bool = False,
        **options: Unpack[Options],
    ) -> Iterator[str | Restart | Answer]:
        """Like `ask`, giving the text piece by piece and the Answer last.

        A `Restart` withdraws what was given of one part, whose check failed; with `settled`, text comes only
        once it is checked, and nothing is withdrawn. The last piece comes after the row is on disk.
        Closing the iterator stops the answer and records it as aborted.
        """
        ask = self.asked(prompt, thread_id, specialist, **options)
        return self.run(ask, streaming=True, settled=settled)

    def asked(
        self,
        prompt: Prompt,
        thread_id: str | None = None,
        specialist: str | None = None,
        **options: Unpack[Options],
    ) -> Ask:
        """Put a request together, and check it. Raises UsageError for values that are out of range."""
        if unknown := options.keys() - Options.__annotations__.keys():
            known = ", ".join(Options.__annotations__)
            raise TypeError(f"there is no option {min(unknown)!r}; there are {known}")
        temperature, person = options.get("temperature", 0.0), options.get("person")
        if not 0.0 <= temperature <= 100.0:
            raise UsageError(f"temperature {temperature} is out of range; give 0 (greedy) to 100")
        if thread_id is not None and not 0 < len(thread_id) <= 255:
            raise UsageError(f"the thread id has {len(thread_id)} characters; it must have 1 to 255")
        if person is not None and not 0 < len(person) <= 255:
            raise UsageError(f"the person's name has {len(person)} characters; it must have 1 to 255")
        given = options.get("max_tokens")
        longest = self._max_tokens if given is None else given
        if longest < 1:
            raise UsageError(f"max_tokens is {longest}; an answer needs at least 1 token")
        return Ask(
            turns=turns_from(prompt, self._limits.prompt_characters),
            thread_id=thread_id or new_id(),
            specialist=specialist,
            max_tokens=longest,
            temperature=temperature,
            seed=options.get("seed", 0),
            steer=options.get("steer") or Steer(),
            parent_id=options.get("parent_id"),
            use_history=isinstance(prompt, str),
            remember=options.get("remember", True),
            person=person,
        )

    def run(self, ask: Ask, *, streaming: bool, settled: bool) -> Iterator[str | Restart | Answer]:
        """Answer what `asked` put together; without `streaming` only the Answer comes."""
        items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        passage = self.embark(ask, items.put, streaming=streaming, settled=settled)
        try:
            passage.start()  # in here: an interrupt may come at any moment from now on
            while not isinstance(item := items.get(), Answer):
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            passage.stop()
        yield item

    def embark(self, ask: Ask, put: Callable[[Item], None], *, streaming: bool, settled: bool) -> Passage:
        """Make ready to answer; loads what is not loaded.

        After the passage's `start`, what comes of it goes to `put`, from other threads.

        Raises NotFoundError for an unknown specialist.
        """
        ready = self._open()
        known_specialist(ready.ship, ask.specialist)
        graph = ready.graph if ask.remember else ready.forgetful
        if ask.use_history and not ask.remember:
            ask = replace(ask, turns=(*self.history(ask.thread_id), *ask.turns))
        return Passage(ready.ship, graph, ask, put, streaming=streaming, settled=settled)

    def route(self, prompt: Prompt, thread_id: str | None = None, specialist: str | None = None) -> Course:
        """Decide who would answer, and why, without answering: nothing is generated, logged or remembered.

        Raises what `ask` raises for a prompt or specialist that is wrong.
        """
        from .course import course_of

        ask = self.asked(prompt, thread_id, specialist)
        known_specialist(self.ship, specialist)
        known = self.history(thread_id) if thread_id is not None and ask.use_history else ()
        return course_of(self.ship, ask, known)

    # -- conversations -----------------------------------------------------------------------------------

    def history(self, thread_id: str) -> Turns:
        """The conversation that a thread remembers; empty for a new one."""
        from .controller import turns_of
        from .threads import config_of

        graph = self._open().graph
        return turns_of(graph.get_state(config_of(thread_id)).values.get("turns") or [])

    def remember(self, thread_id: str, turns: Turns) -> None:
        """Make `turns` what the thread remembers."""
        from .controller import pairs_of
        from .threads import config_of

        graph = self._open().graph
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

    def record(
        self,
        record_id: str,
        verdict: str,
        score: float | None = None,
        *,
        source: str = "user",
        note: str = "",
    ) -> Outcome:
        """Write down what was learned later about a record: a thumb, a verifier's word, a label.

        `record_id` may be short, or `last`, as for `why`; a higher `score` is better. Raises NotFoundError
        when there is no such record, UsageError where nothing is logged.
        """
        from .outcomes import write_outcome

        return write_outcome(self.ship.log, record_id, verdict, score, source, note)

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
