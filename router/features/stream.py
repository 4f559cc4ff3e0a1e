"""Where states come from while a dictionary trains: a batch is a pure function of the step's number.

So training can stop anywhere and go on, and never holds more than one buffer of states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ...store.errors import UsageError
from ..checks import finite, matrix
from ..taps import Taps

BUFFER = 65_536  # states held at once


class Stream(Protocol):
    """Gives batches of states."""

    width: int

    def batch(self, step: int, size: int) -> Tensor:
        """Return states [size, D] for a step: the same for the same step, always."""


class Rows:
    """States [N,D] that are already in memory, drawn with replacement. Raises UsageError for other shapes."""

    def __init__(self, states: Tensor, seed: int = 0) -> None:
        self.states = matrix("states", states).detach()
        self.width, self.seed = self.states.shape[1], seed

    def batch(self, step: int, size: int) -> Tensor:
        """Return `size` rows drawn by the step's own seed."""
        generator = torch.Generator().manual_seed((self.seed << 32) + step)
        return self.states[torch.randint(len(self.states), (size,), generator=generator)].float()


class Made:
    """States that a function makes, `make(size, generator) -> [size, D]`: endless synthetic data."""

    def __init__(self, make: Callable[[int, torch.Generator], Tensor], width: int, seed: int = 0) -> None:
        self._make, self.width, self.seed = make, width, seed

    def batch(self, step: int, size: int) -> Tensor:
        """Return states made with the step's own seed."""
        return self._make(size, torch.Generator().manual_seed((self.seed << 32) + step)).float()


class Activations:
    """The residual stream after `layer` of a model reading token rows, buffer by buffer.

    A buffer of at most `buffer` states is filled from a fixed share of the rows, shuffled by the seed, and
    dealt out; then the next, round and round. Position 0 is left out (it sees only itself). Raises UsageError
    when there are no rows of at least two tokens, or the model gives numbers that are not finite.
    """

    def __init__(
        self, model: Any, layer: int, rows: Sequence[Sequence[int]], seed: int = 0, buffer: int = BUFFER
    ) -> None:
        self.model, self.layer, self.seed = model, layer, seed
        self._parts = _parts([row for row in rows if len(row) > 1], buffer)
        self._held: tuple[int, Tensor] | None = None
        self.width = self._buffer(0).shape[1]

    def batch(self, step: int, size: int) -> Tensor:
        """Return the step's share of its buffer; the last, short one of a buffer is filled up from its
        start.
        """
        index, at = self._place(step, size)
        held = self._buffer(index)
        some = held[at : at + size]
        return some if len(some) == size else torch.cat([some, held.repeat(-(-size // len(held)), 1)])[:size]

    def _place(self, step: int, size: int) -> tuple[int, int]:
        """Which buffer a step is in, and where; every buffer deals ceil(states / size) batches."""
        batches = [max(1, -(-states // size)) for _, states in self._parts]
        rounds, left = divmod(step, sum(batches))
        for index, count in enumerate(batches):
            if left < count:
                return rounds * len(batches) + index, left * size
            left -= count
        raise AssertionError(step)

    def _buffer(self, index: int) -> Tensor:
        if self._held is None or self._held[0] != index:
            self._held = None  # let the old one go before the new one is made
            states = self._read(self._parts[index % len(self._parts)][0])
            generator = torch.Generator().manual_seed((self.seed << 32) + index)
            self._held = (index, states[torch.randperm(len(states), generator=generator)])
        return self._held[1]

    @torch.no_grad()
    def _read(self, rows: Sequence[Sequence[int]]) -> Tensor:
        device = next(self.model.parameters()).device
        found = []
        with Taps(self.model, (self.layer,)) as taps:
            for row in rows:
                self.model(torch.tensor([list(row)], device=device))
                found.append(taps.states[self.layer][0, 1:].float().cpu())
        return finite("the residual stream", torch.cat(found))


def _parts(rows: Sequence[Sequence[int]], buffer: int) -> list[tuple[list[Sequence[int]], int]]:
    """Cut rows into groups of at most `buffer` states (at least one row each)."""
    if not rows:
        raise UsageError("there are no rows of at least two tokens; give texts to read states from")
    parts: list[tuple[list[Sequence[int]], int]] = [([], 0)]
    for row in rows:
        if parts[-1][0] and parts[-1][1] + len(row) - 1 > buffer:
            parts.append(([], 0))
        some, states = parts[-1]
        some.append(row)
        parts[-1] = (some, states + len(row) - 1)
    return parts
