"""The stream of one request: its events in order, what was tapped and read, and the way to cancel it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ...store.errors import PilothouseError
from .base import Request, RequestFailed, TokenEvent

if TYPE_CHECKING:
    from torch import Tensor


class Stream(Iterator[TokenEvent]):
    """Iterate to get events; iteration waits, ends after the last event, and raises what ended it early.

    An unread stream goes on to its end: cancel one that nobody waits for. One thread reads; any may cancel.
    The engine's side are `put`, `read`, `tap`, `finish` and `fail`; after the end they do nothing.

    `reused` counts prompt tokens that an earlier request had read. `prefill_ms` is the time from submission
    to the first token's draw.
    """

    def __init__(self, request: Request, on_cancel: Callable[[], None] = lambda: None) -> None:
        self.request = request
        self.reused = 0
        self.prefill_ms = 0.0
        self.cancelled = False
        self._on_cancel = on_cancel
        self._events: deque[TokenEvent] = deque()
        self._states: dict[int, list[Tensor]] = {layer: [] for layer in request.taps}
        self._held: Tensor | None = None
        self._filled = 0
        self._readings: dict[str, list[float]] = {head.name: [] for head in request.heads}
        self._each: list[tuple[float, ...]] = []
        self._error: PilothouseError | None = None
        self._over = False
        self._begun = time.perf_counter()
        self._changed = threading.Condition()

    # -- the reader's side ---------------------------------------------------------------------------------

    def __next__(self) -> TokenEvent:
        with self._changed:
            while not self._events and not self._over:
                self._changed.wait()
            if self.cancelled or not self._events:
                if self._error is not None and not self.cancelled:
                    raise self._error
                raise StopIteration
            return self._events.popleft()

    def cancel(self) -> None:
        """Stop the answer; iteration ends. Cancelling twice, or after the end, does nothing."""
        with self._changed:
            if self.cancelled:
                return
            self.cancelled = True
            was_over, self._over = self._over, True
            self._events.clear()
            self._changed.notify_all()
        if not was_over:
            self._on_cancel()

    def close(self) -> None:
        """Cancel, as closing a generator does."""
        self.cancel()

    def text(self) -> str:
        """Read to the end and return the text of the events that were not read yet."""
        return "".join(event.text for event in self)

    @property
    def over(self) -> bool:
        """Whether no further event will be made."""
        return self._over

    @property
    def states(self) -> Mapping[int, Tensor]:
        """{layer: [T, D]} at the T tokens read so far, in order: prompt, invocation, answer.

        The last drawn token is never read. On the CPU, in the model's own precision.
        """
        import torch

        with self._changed:
            held = () if self._held is None else self._held[:, : self._filled]
            parts = dict(self._states)
            for layer, rows in zip(self.request.taps, held, strict=False):
                parts[layer] = [*parts[layer], rows]
            return {layer: torch.cat(rows) for layer, rows in parts.items() if rows}

    @property
    def readings(self) -> Mapping[str, tuple[float, ...]]:
        """{head: its logits}: one an event for `token`, one in all for `prompt` and `end`."""
        with self._changed:
            found = {name: tuple(values) for name, values in self._readings.items()}
            each = [head.name for head in self.request.heads if head.at == "token"]
            return found | dict(zip(each, zip(*self._each, strict=True), strict=bool(self._each)))

    # -- the engine's side ---------------------------------------------------------------------------------

    def put(self, *events: TokenEvent) -> None:
        """Hand over events, with what the `token` heads read. One with a finish reason is the last."""
        with self._changed:
            if self._over or not events:
                return
            if self.prefill_ms == 0.0:
                self.prefill_ms = 1e3 * (time.perf_counter() - self._begun)
            self._events.extend(events)
            self._each.extend(event.readings for event in events if event.readings)
            self._over = events[-1].finish_reason is not None
            self._changed.notify_all()

    def read(self, name: str, logit: float) -> None:
        """Hand over what a `prompt` or `end` head read; give it before the event it belongs to."""
        with self._changed:
            if not self._over:
                self._readings[name].append(logit)

    def tap(self, layer: int, states: Tensor) -> None:
        """Hand over the states [n, D] of the next n tokens at a tapped layer."""
        with self._changed:
            if not self._over:
                self._states[layer].append(states)

    def hold(self, states: Tensor) -> None:
        """Give the memory [taps, n, D] that the engine writes the next n tokens' states into; `hold_more`
        tells of each that it wrote. What `tap` was given comes before them.
        """
        self._held = states

    def hold_more(self, tokens: int) -> None:
        """Count tokens whose states were written into what is held; only the engine's thread does, so
        without the lock.
        """
        if not self._over:
            self._filled += tokens

    def fail(self, error: BaseException) -> None:
        """End with an error, which the reader meets after the events that are already there."""
        with self._changed:
            if self._over:
                return
            self._error = error if isinstance(error, PilothouseError) else _wrapped(error)
            self._over = True
            self._changed.notify_all()


def _wrapped(error: BaseException) -> RequestFailed:
    wrapped = RequestFailed(f"the engine failed on this request: {error!r}")
    wrapped.__cause__ = error
    return wrapped
