"""One replica of the deployment of engines: it holds the weights, and runs prompts for whichever controller
asks. It knows no policy, no conversation and no log.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from .fleet import Fleet

if TYPE_CHECKING:
    from torch import Tensor

    from ...router.steer.vector import SteeringVector
    from ...specialists.engines.base import Prefill, Sampling, TokenEvent

T = TypeVar("T")
REMEMBERED = 16  # prompts that were read and may be answered next


class EngineReplica:
    """Answers by message what an `Engine` answers by call."""

    def __init__(self, fleet: Fleet) -> None:
        """Open the family's engine. Raises as `open_engine`."""
        from ...specialists.engines.choose import open_engine
        from ...specialists.family import Family

        self._family = Family.open(fleet.family)
        self._engine = open_engine(self._family, fleet.engine, fleet.device, fleet.cores)
        self._pool = ThreadPoolExecutor(4 * fleet.concurrency, "pilothouse-engine")
        self._read: OrderedDict[tuple[int, ...], Prefill] = OrderedDict()
        self._reading = threading.Lock()

    async def about(self) -> tuple[str, int]:
        """The trunk's fingerprint, and the most tokens it reads."""
        return self._family.trunk_fingerprint, self._engine.context

    async def probe(self, tokens: tuple[int, ...], layers: tuple[int, ...]) -> Prefill:
        """Read a prompt; what is kept to go on from there stays here."""
        from dataclasses import replace

        return replace(await self._work(self._probe, tokens, layers), handle=None)

    async def generate(
        self, tokens: tuple[int, ...], specialist: str, sampling: Sampling, vectors: Sequence[SteeringVector]
    ) -> AsyncIterator[list[TokenEvent]]:
        """Answer a prompt: the events that came since the last message, until the end."""
        prefill = await self._work(self._prefill, tokens)
        stream: Any = await self._work(self._engine.generate, prefill, specialist, sampling, tuple(vectors))
        loop, mail = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def read() -> None:
            end: object = None
            try:
                for event in stream:
                    loop.call_soon_threadsafe(mail.put_nowait, event)
            except Exception as error:
                end = error
            loop.call_soon_threadsafe(mail.put_nowait, end)

        reader = asyncio.ensure_future(self._work(read))
        try:
            over = False
            while not over:
                found = [await mail.get()]
                while not mail.empty():
                    found.append(mail.get_nowait())
                last = found[-1]
                over = last is None or isinstance(last, Exception)
                if events := found[:-1] if over else found:
                    yield events
                if isinstance(last, Exception):
                    raise last
        finally:
            stream.close()  # whoever asked has gone, or the end was reached
            await reader

    async def score(
        self,
        tokens: tuple[int, ...],
        specialist: str,
        answer: tuple[int, ...],
        vectors: Sequence[SteeringVector],
    ) -> float:
        """See `Engine.score`."""
        prefill = await self._work(self._prefill, tokens)
        return await self._work(self._engine.score, prefill, specialist, answer, vectors)

    async def states(
        self,
        tokens: tuple[int, ...],
        specialist: str,
        answer: tuple[int, ...],
        layers: tuple[int, ...],
        vectors: Sequence[SteeringVector],
    ) -> Mapping[int, Tensor]:
        """See `Engine.states`."""
        prefill = await self._work(self._prefill, tokens)
        return await self._work(self._engine.states, prefill, specialist, answer, layers, vectors)

    async def _work(self, what: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, what, *arguments)

    def _probe(self, tokens: tuple[int, ...], layers: tuple[int, ...]) -> Prefill:
        prefill = self._engine.probe(tokens, layers)
        with self._reading:
            self._read[tokens] = prefill
            while len(self._read) > REMEMBERED:
                self._read.popitem(last=False)
        return prefill

    def _prefill(self, tokens: tuple[int, ...]) -> Prefill:
        """The prompt as it was probed here, or read now: another replica may have probed it."""
        with self._reading:
            known = self._read.get(tokens)
        return known if known is not None else self._probe(tokens, ())
