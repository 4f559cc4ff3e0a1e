"""How many may come in: answers at once, requests and tokens a minute."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .faults import Refusal

REMEMBERED = 10_000  # callers whose allowance is kept in mind


@dataclass
class _Bucket:
    left: float
    at: float


class Allowance:
    """So many a minute for each caller, and as many at once. 0 is no limit."""

    def __init__(self, a_minute: int, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._what, self._clock = a_minute, what, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, who: str, count: float = 1.0) -> None:
        """Take `count` of a caller's allowance. Raises Refusal (429) when less than one is left.

        What is learned late (the tokens of an answer) may be taken with `charge`, below zero too.
        """
        if not self._size:
            return
        bucket = self._bucket(who)
        if bucket.left < 1.0:
            wait = math.ceil((1.0 - bucket.left) * 60.0 / self._size)
            raise Refusal(
                429,
                f"more than {self._size} {self._what} a minute; wait {wait} s",
                "rate_limit_exceeded",
                headers={"retry-after": str(wait)},
            )
        bucket.left -= count

    def charge(self, who: str, count: float) -> None:
        """Take `count`, whatever is left."""
        if self._size:
            self._bucket(who).left -= count

    def _bucket(self, who: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.setdefault(who, _Bucket(float(self._size), now))
        bucket.left = min(float(self._size), bucket.left + (now - bucket.at) * self._size / 60.0)
        bucket.at = now
        self._buckets.move_to_end(who)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket


class Gate:
    """So many answers at once; a few more may wait, for a while."""

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        self._most, self._patience = waiting, patience
        self._places = asyncio.Semaphore(at_once)
        self.waiting = self.inside = 0

    async def enter(self) -> None:
        """Come in; whoever does must `leave`.

        Raises Refusal (429) when too many wait already, or the wait takes too long.
        """
        if self._places.locked() and self.waiting >= self._most:
            raise _busy(f"{self.inside} answers are under way and {self.waiting} requests wait")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise _busy(f"no answer could be begun within {self._patience:g} s") from None
        finally:
            self.waiting -= 1
        self.inside += 1

    def leave(self) -> None:
        """Go out."""
        self.inside -= 1
        self._places.release()


def _busy(why: str) -> Refusal:
    return Refusal(429, f"{why}; try again later", "overloaded", headers={"retry-after": "1"})
