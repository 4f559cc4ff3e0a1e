"""Prompts that were read: their caches, kept for requests that begin alike and are read alike."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from ...router.steer.vector import SteeringVector
from .rows import RowCache

LEAST = 8


class Key(NamedTuple):
    """Who read a prompt, and under which steering: only what was read alike may be gone on from.

    Adapters have no part in it: they act after the prompt, so all of them share what the trunk read.
    """

    model: str
    steering: str


def key_of(model: str, vectors: Sequence[SteeringVector]) -> Key:
    """Return the key of a prompt that `model` reads under `vectors`; those that act on answers alone do not
    count.
    """
    acting = [vector.sha256 for vector in vectors if vector.scope != "generation"]
    return Key(model, hashlib.sha256(" ".join(acting).encode()).hexdigest() if acting else "")


@dataclass(frozen=True, eq=False)
class Prefix:
    """Tokens that were read, their cache, and the states [T, D] of the layers that were tapped."""

    key: Key
    tokens: tuple[int, ...]
    cache: RowCache
    states: Mapping[int, Tensor] = field(default_factory=dict)


class Prefixes:
    """The prompts read last, most recent first: at most `count`, in at most `memory` bytes. Thread-safe."""

    def __init__(self, count: int, memory: int) -> None:
        self.count, self.memory = count, memory
        self._kept: list[Prefix] = []
        self._lock = threading.Lock()

    def put(self, prefix: Prefix) -> None:
        """Keep a prompt; one that it begins with is superfluous then, unless it lacks that one's states."""
        with self._lock:
            rest = [old for old in self._kept if not _covers(prefix, old)]
            kept: list[Prefix] = []
            spent = 0
            for one in (prefix, *rest):
                spent += one.cache.nbytes
                if len(kept) < self.count and spent <= self.memory:
                    kept.append(one)
            self._kept = kept

    def find(self, key: Key, tokens: Sequence[int], layers: Sequence[int] = ()) -> tuple[Prefix, int] | None:
        """Return the kept prompt that shares most of its beginning with `tokens`, and how much; None where
        that is too little to matter, or states of `layers` are missing.
        """
        with self._lock:
            fit = [one for one in self._kept if one.key == key and set(layers) <= set(one.states)]
        best = max(((one, shared(one.tokens, tokens)) for one in fit), key=lambda pair: pair[1], default=None)
        return best if best is not None and best[1] >= min(LEAST, len(tokens)) else None

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept = []


def _covers(new: Prefix, old: Prefix) -> bool:
    return (
        new.key == old.key
        and new.tokens[: len(old.tokens)] == old.tokens
        and set(old.states) <= set(new.states)
    )


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with in common."""
    if left == right:  # as a prompt that was probed and is answered now
        return len(left)
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return at
    return min(len(left), len(right))
