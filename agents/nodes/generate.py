"""Generate: the chosen specialist answers, piece by piece."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ...store.records import FinishReason, Generation, Part
from ..answer import Piece
from ..voyage import milliseconds_since
from ..words import introduction
from .explain import explained
from .step import At, Step
from .timing import timed

if TYPE_CHECKING:
    from ...specialists.engines.base import TokenEvent


@dataclass
class Draft:
    """What has been generated so far."""

    text: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    count: int = 0
    finish: FinishReason = "aborted"
    first_ms: float | None = None

    def take(self, event: TokenEvent) -> str:
        """Add a token; return its text, less the white space that an answer may begin with."""
        self.count += 1
        if not math.isnan(event.logprob):  # some endpoints elsewhere tell none
            self.logprobs.append(event.logprob)
        if event.finish_reason is not None:
            self.finish = event.finish_reason
        text = event.text if self.text else event.text.lstrip()
        if text:
            self.text.append(text)
        return text

    @property
    def mean_logprob(self) -> float | None:
        """Nats per token, None where none is known."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None


def generate(part: Part, at: At) -> Step:
    """Answer, once the opening row is on disk. The text so far is kept also when this is cut short.

    While the engine works on the first tokens, the decision is explained.
    """
    voyage = at.voyage
    assert part.decision is not None, "the route node fills it"
    name, draft = str(part.decision.chosen), Draft()
    waited = time.perf_counter()
    voyage.wait_opened()
    part = timed(part, log_ms=milliseconds_since(waited))
    begun = time.perf_counter()
    try:
        if voyage.ship.cards[name].kind == "cards":
            _from_cards(part, at, draft)
        else:
            part = _from_engine(part, at, draft, name)
    finally:
        part = _with(part, draft, name)
        part = timed(part, decode_ms=milliseconds_since(begun))
        voyage.parts[part.index] = part
    return Step(part, "check")


def _from_cards(part: Part, at: At, draft: Draft) -> None:
    text = introduction(part.prompt or "", at.voyage.ship.cards)
    draft.text.append(text)
    draft.finish, draft.first_ms = "stop", milliseconds_since(at.voyage.began)
    for line in text.splitlines(keepends=True):
        at.emit(Piece(part.index, line))


def _from_engine(part: Part, at: At, draft: Draft, name: str) -> Part:
    """Fill the draft; return the part, explained."""
    voyage = at.voyage
    # closing the stream is how the engine learns that nobody waits any more
    with closing(_stream(part, at, name)) as stream:
        part = explained(voyage, part)
        for event in stream:
            voyage.stop_if_cancelled()
            text = draft.take(event)
            if draft.first_ms is None:
                draft.first_ms = milliseconds_since(voyage.began)
            if text:
                at.emit(Piece(part.index, text))
    return part


def _stream(part: Part, at: At, name: str) -> _Closable:
    from ...router.steer.runtime import planned
    from ...specialists.engines.base import Sampling

    voyage = at.voyage
    ship, live, ask = voyage.ship, voyage.live[part.index], voyage.ask
    room = max(1, ship.context - len(live.tokens) - 8)
    longest = min(ask.max_tokens, ship.cards[name].max_tokens, room)
    sampling = Sampling(temperature=ask.temperature, max_tokens=longest, seed=ask.seed)
    vectors = planned(part.steering, dict(ship.vectors)) if part.steering.entries else ()
    if ship.cards[name].kind == "remote":
        assert ship.remotes is not None, "opened with the family"
        return cast("_Closable", ship.remotes.generate(live.messages, name, sampling, vectors))
    return cast("_Closable", ship.engine.generate(live.prefill, name, sampling, vectors))


class _Closable(Iterator["TokenEvent"]):
    def close(self) -> None: ...


def _with(part: Part, draft: Draft, name: str) -> Part:
    assert part.generation is not None
    generation = Generation(
        specialist=name,
        prompt_tokens=part.generation.prompt_tokens,
        completion_tokens=draft.count,
        mean_logprob=draft.mean_logprob,
        finish_reason=draft.finish,
        timings=part.generation.timings,
        first_token_ms=draft.first_ms,
    )
    return part.model_copy(update={"generation": generation, "answer": "".join(draft.text)})
