"""One request on its way through the graph: a thread of its own, and what comes out of it, in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..store.errors import PilothouseError
from .answer import Answer, Event, Restart
from .release import Release
from .voyage import Ask, Cancelled, Ship, Voyage

if TYPE_CHECKING:
    from .controller import Graph

logger = logging.getLogger(__name__)
# What comes out: pieces of text, withdrawals, and last the Answer or what went wrong.
Item = str | Restart | Answer | BaseException


class AnswerError(PilothouseError):
    """Answering failed for a reason that has no name of its own; the record says `failed`."""


class Passage:
    """Answers one request in a thread of its own, so that whoever waits can stop waiting at any moment.

    `put` is called from several threads, never from two at once; the Answer or an exception is the last item.
    """

    def __init__(
        self,
        ship: Ship,
        graph: Graph,
        ask: Ask,
        put: Callable[[Item], None],
        *,
        streaming: bool,
        settled: bool,
    ) -> None:
        self.voyage = Voyage(ship, ask, emit=self._take if streaming else _nowhere)
        self._graph, self._put = graph, put
        self._release, self._order = Release(settled), threading.Lock()
        self._worker = threading.Thread(target=self._run, daemon=True, name="pilothouse-answer")

    def start(self) -> None:
        """Begin to answer."""
        self._worker.start()

    @property
    def over(self) -> bool:
        """Whether everything is said and written."""
        return not self._worker.is_alive()

    def stop(self) -> None:
        """Stop answering, and wait until the row says how far it came.

        Before the start and after the end this does nothing.
        """
        self.voyage.cancelled.set()
        if self._worker.ident is not None:
            self._worker.join()

    def _take(self, event: Event) -> None:
        with self._order:
            for item in self._release.feed(event):
                self._put(item)

    def _run(self) -> None:
        voyage = self.voyage
        try:
            self._invoke()
            if last := self._release.last():
                self._put(last)
            if voyage.answer is None:
                raise AnswerError("the controller ended without an answer; please report this")
            self._put(voyage.answer)
        except BaseException as error:
            try:
                close_row(voyage, error)
            finally:  # whatever becomes of the row, nobody waits for ever
                self._put(named(voyage, error))

    def _invoke(self) -> None:
        from .controller import RECURSION_LIMIT
        from .threads import config_of

        config = config_of(self.voyage.ask.thread_id, recursion_limit=RECURSION_LIMIT)
        try:
            kept: Any = {"durability": "exit"} if self._graph.checkpointer else {}
            self._graph.invoke({}, config, context=self.voyage, **kept)
        except Exception as error:
            if not self.voyage.closed or isinstance(error, Cancelled):
                raise
            # the answer is on record and whole: only the thread's memory of it is lost
            logger.warning("the conversation could not be kept: %s", error)


def _nowhere(event: Event) -> None:
    """Where pieces go when only the whole answer is wanted."""


def close_row(voyage: Voyage, error: BaseException) -> None:
    """Finish the row of a request that did not end well, with what was made of it."""
    if voyage.opened is None or voyage.closed:
        return
    from .nodes.record import compose

    failed = isinstance(error, Exception) and not isinstance(error, Cancelled)
    parts = [voyage.parts[index] for index in sorted(voyage.parts)]
    finish = partial(
        voyage.ship.log.finish_soon,
        voyage.record_id,
        "failed" if failed else "aborted",
        answer=compose(parts) or None,
        artifacts=voyage.ship.artifacts,
        error=f"{type(error).__name__}: {error}" if failed else None,
    )
    with suppress(PilothouseError):  # the log itself may be what failed; the first error is the one to tell
        voyage.opened.result()
        try:
            closing = finish(parts=parts)
        except ValueError:  # a part cannot be recorded, which may be what failed
            closing = finish()
        closing.result()
        voyage.closed = True


def named(voyage: Voyage, error: BaseException) -> BaseException:
    """The error as the caller gets it: one that has no name of its own becomes an AnswerError."""
    if not isinstance(error, Exception) or isinstance(error, PilothouseError | Cancelled):
        return error
    where = f"; see `pilothouse log show {voyage.record_id}`" if voyage.logged and voyage.closed else ""
    told = AnswerError(f"answering failed ({type(error).__name__}: {error}){where}")
    told.__cause__ = error
    return told
