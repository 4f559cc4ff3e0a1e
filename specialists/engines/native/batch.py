"""The native engine's batch: how requests become rows, and what one step over them is."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from ...tokenizing import ChatCodec
from ..base import Capacity, Head, Prefill, Request, RequestFailed
from ..prefixes import Prefix, key_of
from ..row import HeadSet, Row, overflow
from ..rowbatch import TRUNK, RowBatch
from ..stream import Stream
from . import library as lib
from .model import NativeModel, Numbered, Plan
from .model import Sequence as Cached
from .plans import plan_of
from .run import Run, Steps

if TYPE_CHECKING:
    from ..rows import RowCache

BLOCK = 32
# Tokens that the engine draws by itself before Python looks again: as many as take about PAUSE seconds.
# Between two looks no request joins and none is cancelled; at each, other Python threads keep it waiting.
MOST, PAUSE = 8, 0.01
PLANS = 64  # of requests of late; enough for all that are answered at once
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Held:
    """A prefill's sequence, and the batch that it belongs to."""

    sequence: Cached
    owner: object


@dataclass(eq=False)
class NativeRow(Row):
    """An open request with its sequence (in `cache`), its adapter and its plan in the engine.

    `states` [taps, n, D] is where the engine writes tapped states, from token `states_from` on.
    """

    acting: Numbered | None = None
    steering: Plan | None = None
    reading: list[str] = field(default_factory=list)
    states: Tensor | None = None
    states_from: int = 0

    @property
    def sequence(self) -> Cached:
        """Its keys and values."""
        return cast(Cached, self.cache)


@dataclass(eq=False)
class _Span:
    """A row's tokens of one step, from its token `first` on: its runs, at most one of prompt and one of
    generation.
    """

    row: NativeRow
    runs: tuple[Run, ...]
    first: int
    draws: bool

    @property
    def end(self) -> int:
        return self.first + sum(len(run.tokens) for run in self.runs)

    @property
    def simple(self) -> bool:
        """Whether the engine may go on by itself: it needs no logits, states or readings of the next."""
        row = self.row
        return self.draws and row.plain and not row.request.taps and not row.reading

    @property
    def single(self) -> bool:
        """Whether it is one token of generation."""
        return len(self.runs) == 1 and self.runs[0].generation and len(self.runs[0].tokens) == 1

    @property
    def prompt(self) -> Run | None:
        """The run that holds the prompt's last token, if it is read now."""
        found = self.runs[0]
        last = self.row.boundary - 1
        return found if self.first <= last < self.first + len(found.tokens) else None


@dataclass(eq=False)
class _Turn:
    """One step of a model's rows."""

    rows: list[NativeRow]
    spans: list[_Span]
    steps: Steps

    def __post_init__(self) -> None:
        self.simple = all(span.simple for span in self.spans)
        self._single = all(span.draws and span.single for span in self.spans)

    def onward(self) -> bool:
        """Let every row read the token that it drew last; False where a row read more, or is to read more."""
        if not self._single or any(span.row.unread != 1 for span in self.spans):
            return False
        for span in self.spans:
            span.first = span.row.sequence.length
        self.steps.onward([span.row.tokens[-1] for span in self.spans])
        return True


class NativeBatch(RowBatch[NativeModel, NativeRow]):
    """The rows of one engine (`scheduler.Work`). `adapters` grows as specialists are loaded."""

    def __init__(self, codec: ChatCodec, trunk: NativeModel, capacity: Capacity) -> None:
        super().__init__(codec, capacity)
        self.models[TRUNK] = trunk
        self.adapters: dict[str, Numbered] = {}
        self._stops = array("i", codec.stops)
        self._plan_of = lru_cache(maxsize=PLANS)(plan_of)
        self._pace: dict[str, float] = {}  # seconds that a token took of late, by model
        self._turns: dict[str, _Turn] = {}  # the last step, by model

    # -- rows ----------------------------------------------------------------------------------------------

    def room(self, request: Request, model: NativeModel) -> int:
        """The most tokens of cache that the request may come to need, in whole blocks."""
        return -(-super().room(request, model) // BLOCK) * BLOCK

    def open(self, request: Request, stream: Stream) -> NativeRow:
        """Give a request a row, which goes on from what was read already where it may."""
        model = self.model_of(request)
        asking, answering = _heads(request)
        sequence = self._begun(request, stream, model, bool(asking))
        first, limit = sequence.length, self.limit(request, model)
        states = None
        if request.taps:
            most = super().room(request, model) - first
            states = torch.empty(len(request.taps), most, model.config.hidden_size)
            stream.hold(states)
        return NativeRow(
            serial=next(self._serials),
            request=request,
            stream=stream,
            codec=self.codec,
            cache=cast("RowCache", sequence),
            tokens=self.tokens(request),
            boundary=len(request.tokens),
            limit=limit,
            model=self.name_of(request),
            answering=HeadSet(answering, CPU) if answering else None,
            asking=HeadSet(asking, CPU) if asking else None,
            acting=self.adapters.get(request.specialist),
            steering=self.plan(request, model),
            reading=[head.name for head in (*asking, *answering)],
            states=states,
            states_from=first,
        )

    def plan(self, request: Request, model: NativeModel) -> Plan | None:
        """Return the plan of a request. Those with the same vectors and heads, the very objects, share one:
        a family's are made once, and preparing them takes longer than a token.

        Raises:
            UsageError: as `plan_of`.
        """
        if not request.vectors and not request.heads:
            return None
        asking, answering = _heads(request)
        return self._plan_of(model, request.vectors, (*asking, *answering))

    def forget(self) -> None:
        """Let go of what is kept for requests to come."""
        self.prefixes.clear()
        self.adapters.clear()
        self._plan_of.cache_clear()

    def _begun(self, request: Request, stream: Stream, model: NativeModel, asked: bool) -> Cached:
        """A sequence that holds as much of the prompt as was read alike; never so much that nothing is left
        to read.
        """
        most = len(request.tokens) - (asked or not self.codec.invocation)
        found = self._known(request) if request.reuse else None
        if found is None or min(found[2], most) < 1:
            return model.sequence()
        sequence, states, common = found
        twin = sequence.fork(min(common, most))
        stream.reused = twin.length
        for layer in request.taps:
            stream.tap(layer, states[layer][: twin.length])
        return twin

    def _known(self, request: Request) -> tuple[Cached, Mapping[int, Tensor], int] | None:
        """The prompt read before that shares most with this one and was read alike: its sequence, its states,
        and how many tokens they share.
        """
        key, prefill = key_of(self.name_of(request), request.vectors), request.prefill
        if prefill is not None and key == key_of(TRUNK, ()) and set(request.taps) <= set(prefill.states):
            held = self.held(prefill)
            if held is not None:
                return held, prefill.states, len(prefill.tokens)
        found = self.prefixes.find(key, request.tokens, request.taps)
        if found is None:
            return None
        return cast(Cached, found[0].cache), found[0].states, found[1]

    def held(self, prefill: Prefill) -> Cached | None:
        """The sequence of a prefill of this engine."""
        handle = prefill.handle
        return handle.sequence if isinstance(handle, Held) and handle.owner is self else None

    def shut(self, row: NativeRow) -> None:
        """Let go of the last step, which held the row; what a row holds goes when it does."""
        self._turns.pop(row.model, None)

    # -- steps ---------------------------------------------------------------------------------------------

    def step(self, rows: Sequence[NativeRow]) -> None:
        """Make one step a model."""
        most = min(self.capacity.chunk, self.models[TRUNK].rows - len(rows))
        for name in dict.fromkeys(row.model for row in rows):
            turn = self._turn(name, [row for row in rows if row.model == name], most)
            self._advance(name, turn)
            for span in turn.spans:
                try:
                    self._deliver(span)
                except Exception as error:
                    span.row.stream.fail(error)

    def _turn(self, name: str, rows: list[NativeRow], most: int) -> _Turn:
        """What these rows do in their next step: as in the last one, if each read one token then and now."""
        turn = self._turns.get(name)
        if turn is None or turn.rows != rows or not turn.onward():
            model = self.models[name]
            spans = [_span(row, tokens) for row, tokens in self.shared_out(rows, most)]
            steps = model.steps([run for span in spans for run in span.runs])
            turn = self._turns[name] = _Turn(rows, spans, steps)
        return turn

    def _advance(self, name: str, turn: _Turn) -> None:
        """One step, or several at once where every row draws the likeliest token and nobody looks inside."""
        several = 1
        if turn.simple:
            several = min(MOST, max(1, int(PAUSE / self._pace.get(name, PAUSE))))
            for span in turn.spans:
                span.runs[-1].most = min(several, span.row.limit - span.row.drawn)
        begun = time.perf_counter()
        turn.steps.make(self._stops)
        count = max((len(span.runs[-1].drawn) for span in turn.spans), default=1)
        self._pace[name] = (time.perf_counter() - begun) / max(1, count)

    def _deliver(self, span: _Span) -> None:
        """Hand a row what is its own."""
        row, last = span.row, span.runs[-1]
        for run in span.runs:
            if run.status != lib.OK and not run.drawn:
                raise _failure(run.status, row)
        if row.states is not None:
            row.stream.hold_more(span.end - span.first)
        asked = len(row.asking.heads) if row.asking else 0
        if (prompt := span.prompt) is not None:
            if asked and prompt.readings is not None:
                at = row.boundary - 1 - span.first
                for name, logit in zip(row.reading, prompt.readings[at, :asked].tolist(), strict=False):
                    row.stream.read(name, logit)
            self._remember(row, span)
        if span.draws:
            self._accept(row, last, asked)

    def _accept(self, row: NativeRow, last: Run, asked: int) -> None:
        """Give a row the tokens that were drawn, up to the one that ends its answer."""
        if last.logits is not None:
            token = row.choose(last.logits, last.token)
            drawn: Sequence[tuple[int, float]] = ((token, float(last.logits[token]) - last.normaliser),)
        else:
            drawn = last.drawn
        row.accept_all(drawn, last.last_readings(asked))
        if last.status != lib.OK and not row.stream.over:
            raise _failure(last.status, row)

    def _remember(self, row: NativeRow, span: _Span) -> None:
        """Keep a prompt that is read to its end."""
        if not row.request.reuse:
            return
        try:
            sequence = row.sequence.fork(row.boundary)
        except MemoryError:
            return
        states = {layer: x[: row.boundary] for layer, x in row.stream.states.items()}
        key = key_of(row.model, row.request.vectors)
        self.prefixes.put(Prefix(key, row.request.tokens, cast("RowCache", sequence), states))


def _heads(request: Request) -> tuple[list[Head], list[Head]]:
    """Heads that read the prompt's end, and those that read the answer: the order of a plan's."""
    asking = [head for head in request.heads if head.at == "prompt"]
    return asking, [head for head in request.heads if head.at != "prompt"]


def _span(row: NativeRow, tokens: int) -> _Span:
    """The next tokens of a row: prompt by the bare model, generation by its specialist."""
    first = row.sequence.length
    cut = min(max(row.boundary, first), first + tokens)
    draws = tokens == row.unread
    runs = []
    for begin, end, generation in ((first, cut, False), (cut, first + tokens, True)):
        if begin < end:
            here = draws and end == first + tokens
            run = Run(
                row.sequence,
                row.tokens[begin:end],
                adapter=row.acting if generation else None,
                plan=row.steering,
                generation=generation,
                draw=here,
                want_logits=here and not row.plain,
                taps=row.request.taps,
                into=row.states,
                at=begin - row.states_from,
            )
            runs.append(run)
    return _Span(row, tuple(runs), first, draws)


def _failure(status: int, row: NativeRow) -> RequestFailed:
    if status == lib.NOT_FINITE:
        return overflow(f"the state after token {row.sequence.length} is not finite")
    if status == lib.OUT_OF_CACHE:
        return RequestFailed("the key-value cache's memory is used up: send shorter requests, or fewer")
    return RequestFailed(f"the native engine refused token {row.sequence.length} (code {status})")
