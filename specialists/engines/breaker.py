"""A circuit breaker: after several failures in a row nobody is asked for a while, then one request tries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...store.errors import PilothouseError


class Unavailable(PilothouseError):
    """An endpoint elsewhere does not answer, or was not asked because it did not answer lately."""


class Breaker:
    """Counts failures of one endpoint. Thread-safe. `clock` gives seconds.

    Closed, it lets everything through. `failures` in a row open it: `enter` refuses for `rest` seconds. Then
    it is half open: one caller may try, and its success closes the breaker, its failure opens it again.
    """

    def __init__(
        self, name: str, failures: int = 5, rest: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.failures, self.rest, self._clock = name, failures, rest, clock
        self._lock = threading.Lock()
        self._failed = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        """Whether requests are refused now."""
        return self._failed >= self.failures and self._clock() < self._until

    def enter(self) -> None:
        """Ask for leave to try. Raises Unavailable while the breaker is open."""
        with self._lock:
            if self._failed < self.failures:
                return
            left = self._until - self._clock()
            if left > 0:
                raise Unavailable(
                    f"{self.name} failed {self._failed} times in a row and is not asked for {left:.0f} s: "
                    "wait, or choose another specialist"
                )
            self._until = self._clock() + self.rest  # one tries; the others go on waiting

    def succeeded(self) -> None:
        """It answered."""
        with self._lock:
            self._failed = 0

    def failed(self) -> None:
        """It did not."""
        with self._lock:
            self._failed += 1
            if self._failed >= self.failures:
                self._until = self._clock() + self.rest
