"""`AsyncPilot`: the pilot for asyncio. Answers are made in threads; the event loop only hears of them."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from ..store.records import Outcome
from .answer import Answer, Restart
from .options import Options
from .passage import Item, Passage
from .pilot import Pilot, Prompt
from .voyage import Ask

if TYPE_CHECKING:
    from .causal import Why
    from .course import Course


class AsyncPilot:
    """A `Pilot` with the same methods, awaitable. Use it in an `async with` statement, or await `close`.

    It takes a pilot (None: `Pilot()`) and closes it. Cancelling the task that waits for an answer stops the
    answer; its record then says aborted.
    """

    def __init__(self, pilot: Pilot | None = None) -> None:
        self.pilot = pilot if pilot is not None else Pilot()

    async def warm(self) -> Self:
        """Load now what the first prompt would load. Raises what `Pilot.warm` raises."""
        await asyncio.to_thread(self.pilot.warm)
        return self

    async def ask(
        self,
        prompt: Prompt,
        thread_id: str | None = None,
        specialist: str | None = None,
        **options: Unpack[Options],
    ) -> Answer:
        """Answer a prompt. See `Pilot.ask`."""
        ask = self.pilot.asked(prompt, thread_id, specialist, **options)
        async with AnswerStream(self.pilot, ask, streaming=False) as items:
            return await items.answer()

    def stream(
        self,
        prompt: Prompt,
        thread_id: str | None = None,
        specialist: str | None = None,
        *,
        settled: bool = False,
        **options: Unpack[Options],
    ) -> AnswerStream:
        """Give the text piece by piece and the Answer last. See `Pilot.stream`.

        Leave the stream's `async with` block, or await its `aclose`, to stop the answer.
        """
        return AnswerStream(
            self.pilot, self.pilot.asked(prompt, thread_id, specialist, **options), settled=settled
        )

    async def route(
        self, prompt: Prompt, thread_id: str | None = None, specialist: str | None = None
    ) -> Course:
        """Decide who would answer, without answering. See `Pilot.route`."""
        return await asyncio.to_thread(self.pilot.route, prompt, thread_id, specialist)

    async def why(self, record_id: str = "last", causal: bool = False) -> Why:
        """Explain a record. See `Pilot.why`."""
        return await asyncio.to_thread(self.pilot.why, record_id, causal)

    async def record(
        self,
        record_id: str,
        verdict: str,
        score: float | None = None,
        *,
        source: str = "user",
        note: str = "",
    ) -> Outcome:
        """Write down what was learned later about a record. See `Pilot.record`."""
        return await asyncio.to_thread(self.pilot.record, record_id, verdict, score, source=source, note=note)

    async def close(self) -> None:
        """Close the pilot. A second call does nothing."""
        await asyncio.to_thread(self.pilot.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AnswerStream:
    """An answer on its way: iterate for its pieces, the Answer comes last.

    The request starts with the first item that is asked for.
    """

    def __init__(self, pilot: Pilot, ask: Ask, *, streaming: bool = True, settled: bool = True) -> None:
        self._pilot, self._ask = pilot, ask
        self._streaming, self._settled = streaming, settled
        self._mail: _Mail | None = None
        self._passage: Passage | None = None
        self._ended = False

    @property
    def passage(self) -> Passage:
        """The request under way. Raises RuntimeError before the first item was asked for."""
        if self._passage is None:
            raise RuntimeError("nothing was asked for yet; take the first item")
        return self._passage

    async def answer(self) -> Answer:
        """Pass over the pieces; return the Answer."""
        async for item in self:
            if isinstance(item, Answer):
                return item
        raise RuntimeError("the answer was taken already")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | Restart | Answer:
        if self._ended:
            raise StopAsyncIteration
        try:
            item = await (await self._begun()).get()
        except BaseException:
            await self.aclose()
            raise
        self._ended = isinstance(item, Answer | BaseException)
        if isinstance(item, BaseException):
            raise item
        return item

    async def _begun(self) -> _Mail:
        if self._mail is None:
            mail = _Mail(asyncio.get_running_loop())
            if not self._pilot.is_open:  # loading takes seconds, which the event loop has not
                await asyncio.to_thread(self._pilot.warm)
            self._passage = self._pilot.embark(
                self._ask, mail.put, streaming=self._streaming, settled=self._settled
            )
            self._passage.start()
            self._mail = mail
        return self._mail

    async def aclose(self) -> None:
        """Stop the answer if it is under way; when this returns, its record says how far it came."""
        self._ended = True
        passage = self._passage
        if passage is not None and not passage.over:
            passage.voyage.cancelled.set()  # at once, also if this task is cancelled again while it waits
            await asyncio.shield(asyncio.to_thread(passage.stop))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Mail:
    """From the threads of one answer to the event loop: one wake-up, however many items came meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._items = loop, deque[Item]()
        self._there, self._called = asyncio.Event(), False

    def put(self, item: Item) -> None:
        """Called from any thread."""
        self._items.append(item)
        if not self._called:
            self._called = True
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self._loop.call_soon_threadsafe(self._there.set)

    async def get(self) -> Item:
        """Called in the loop. Text that waits comes as one piece."""
        while not self._items:
            self._there.clear()
            self._called = False
            if not self._items:  # none came between the two lines above, so the next `put` calls
                await self._there.wait()
        item = self._items.popleft()
        while isinstance(item, str) and self._items and isinstance(self._items[0], str):
            item += str(self._items.popleft())
        return item
