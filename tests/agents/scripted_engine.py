"""An engine that reads with the real trunk and answers from a script: for the controller's own logic."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pilothouse.specialists.engines.base import Prefill, Sampling, TokenEvent
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.store.records import Message

Script = Mapping[str, str | BaseException]


class ScriptedEngine:
    """Answers word by word from `script` (by specialist); an exception in it is raised after the first word.

    `logprob` is that of every token. `calls` lists who was asked, with the steering; `closed` counts
    iterators that were closed early; `before` runs before each token.
    """

    def __init__(self, real: TorchEngine, script: Script, logprob: float = -0.1) -> None:
        self.real, self.script, self.logprob = real, script, logprob
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.read: list[tuple[int, ...]] = []
        self.closed = 0
        self.finish = "stop"
        self.before: Callable[[str, int], None] = lambda name, count: None
        self.lock = threading.Lock()

    @property
    def context(self) -> int:
        return self.real.context

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self.real.encode_chat(messages)

    def encode_answer(self, text: str) -> tuple[int, ...]:
        return self.real.encode_answer(text)

    def probe(self, tokens: Sequence[int], layers: Sequence[int] = ()) -> Prefill:
        with self.lock:
            self.read.append(tuple(tokens))
        return self.real.probe(tokens, layers)

    def generate(
        self, prefill: Prefill, specialist: str, sampling: Sampling, vectors: Sequence[Any] = ()
    ) -> Iterator[TokenEvent]:
        with self.lock:
            self.calls.append((specialist, tuple(vector.name for vector in vectors)))
        return self._events(specialist)

    def _events(self, name: str) -> Iterator[TokenEvent]:
        said = self.script[name]
        text = "started well " if isinstance(said, BaseException) else said
        words = [word + " " for word in text.split(" ")]
        words[-1] = words[-1][:-1]
        finished = False
        try:
            for count, word in enumerate(words):
                self.before(name, count)
                if isinstance(said, BaseException) and count == 1:
                    raise said
                last = count == len(words) - 1
                finished = last
                yield TokenEvent(5, word, self.logprob, self.finish if last else None)  # type: ignore[arg-type]
        finally:
            self.closed += not finished

    def score(self, *_: Any, **__: Any) -> float:
        raise NotImplementedError

    def states(self, *_: Any, **__: Any) -> dict[int, Any]:
        raise NotImplementedError

    def close(self) -> None:
        pass
