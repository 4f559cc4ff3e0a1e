"""The torch engine's batch: how requests become rows, and what one pass over them is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..adapters import AdapterBank
from ..tokenizing import ChatCodec
from .base import Capacity, Prefill, Request
from .instruments import Instruments
from .plan import Plan, Span, read_heads, spans_of
from .prefixes import Prefix, key_of
from .row import HeadSet, Row
from .rowbatch import TRUNK, RowBatch
from .rows import RowCache, RowsPass, Segment, run
from .scheduler import Turns
from .stream import Stream

if TYPE_CHECKING:
    from .rows import Decoder


@dataclass(frozen=True, eq=False)
class Kept:
    """A prefill's cache, the logits [V] after its last token, and whose it is."""

    cache: Any
    logits: Tensor
    owner: object


@dataclass(frozen=True, eq=False)
class Model:
    """One of the engine's models. `bytes_a_token` is what its key-value cache takes."""

    name: str
    decoder: Decoder
    instruments: Instruments
    layers: int
    context: int
    bytes_a_token: int

    @classmethod
    def of(cls, name: str, decoder: Decoder) -> Model:
        """Read the shape from the decoder's config."""
        config = decoder.config
        if hasattr(config, "get_text_config"):
            config = config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        layers, item = int(config.num_hidden_layers), next(decoder.parameters()).element_size()
        context = int(getattr(config, "max_position_embeddings", 1 << 20))
        return cls(name, decoder, Instruments(decoder), layers, context, 2 * layers * heads * size * item)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.decoder.device


class TorchBatch(RowBatch[Model, Row]):
    """The rows of one engine (`scheduler.Work`)."""

    def __init__(self, codec: ChatCodec, bank: AdapterBank, turns: Turns, capacity: Capacity) -> None:
        super().__init__(codec, capacity)
        self.bank, self.turns = bank, turns
        self._plans: dict[str, tuple[tuple[int, ...], Plan]] = {}

    # -- rows ----------------------------------------------------------------------------------------------

    def open(self, request: Request, stream: Stream) -> Row:
        """Give a request a row, which goes on from what was read already where it may."""
        model = self.model_of(request)
        asking = [head for head in request.heads if head.at == "prompt"]
        answering = [head for head in request.heads if head.at != "prompt"]
        cache = self._begun(request, stream, model, bool(asking))
        return Row(
            serial=next(self._serials),
            request=request,
            stream=stream,
            codec=self.codec,
            cache=cache,
            tokens=self.tokens(request),
            boundary=len(request.tokens),
            limit=self.limit(request, model),
            model=model.name,
            adapter=request.specialist if request.specialist in self.bank.adapters else None,
            slots=model.instruments.take(request.vectors),
            answering=HeadSet(answering, model.device) if answering else None,
            asking=HeadSet(asking, model.device) if asking else None,
        )

    def _begun(self, request: Request, stream: Stream, model: Model, asked: bool) -> RowCache:
        """A cache that holds as much of the prompt as was read alike; never so much that nothing is left to
        read.
        """
        room = self.room(request, model)
        most = len(request.tokens) - (asked or not self.codec.invocation)
        found = self._known(request, model) if request.reuse else None
        if found is not None:
            prefix, common = found
            cache = prefix.cache.fork(min(common, most), room)
            if cache is not None:
                stream.reused = cache.length
                for layer in request.taps:
                    stream.tap(layer, prefix.states[layer][: cache.length])
                return cache
        return RowCache(model.layers, room)

    def _known(self, request: Request, model: Model) -> tuple[Prefix, int] | None:
        key, prefill = key_of(model.name, request.vectors), request.prefill
        if prefill is not None and key == key_of(TRUNK, ()) and set(request.taps) <= set(prefill.states):
            kept = prefill.handle
            if isinstance(kept, Kept) and kept.owner is self:
                return self.prefix(prefill), len(prefill.tokens)
        return self.prefixes.find(key, request.tokens, request.taps)

    def prefix(self, prefill: Prefill) -> Prefix:
        """What the bare trunk read, as rows may go on from it."""
        length = len(prefill.tokens)
        cache = RowCache.of(prefill.handle.cache, length, length)
        return Prefix(key_of(TRUNK, ()), prefill.tokens, cache, prefill.states)

    def shut(self, row: Row) -> None:
        """Clear the row's steering."""
        self.models[row.model].instruments.give(row.slots)
        self._plans.pop(row.model, None)

    # -- passes --------------------------------------------------------------------------------------------

    def step(self, rows: Sequence[Row]) -> None:
        """Make one pass a model. Where a pass fails, each row goes alone, so that only its cause ends."""
        for name in dict.fromkeys(row.model for row in rows):
            work = self.shared_out([row for row in rows if row.model == name], self.capacity.chunk)
            try:
                self._pass(self.models[name], work)
            except Exception as error:
                self._each(self.models[name], work, error)

    def _each(self, model: Model, work: Sequence[tuple[Row, int]], error: Exception) -> None:
        for row, tokens in work:
            try:
                if len(work) == 1:
                    raise error
                self._pass(model, [(row, tokens)])
            except Exception as cause:
                row.stream.fail(cause)

    @torch.inference_mode()
    def _pass(self, model: Model, work: Sequence[tuple[Row, int]]) -> None:
        spans = spans_of(work)
        segments = [Segment(s.row.cache, s.row.tokens[s.first : s.first + s.count]) for s in spans]
        drawing = [span for span in spans if span.draws]
        plan = self._plan(model, spans)
        with self.turns, ExitStack() as stack:
            rows = RowsPass(segments, model.device)
            stack.enter_context(plan.acting(self.bank))
            if plan.work:
                stack.enter_context(model.instruments.during(plan.work, plan.gates))
            logits = run(model.decoder, rows, [span.at + span.count - 1 for span in drawing])
            seen = dict(model.instruments.seen) if plan.work else {}
        rows.advance()
        self._remember(model, spans, seen)
        self._deliver(drawing, spans, logits, seen)

    def _plan(self, model: Model, spans: Sequence[Span]) -> Plan:
        """The plan; that of the pass before, where the same rows go on by one token each."""
        steady = all(span.count == 1 and span.row.drawn for span in spans)
        key = tuple(span.row.serial for span in spans)
        if steady and model.name in self._plans and self._plans[model.name][0] == key:
            return self._plans[model.name][1]
        plan = Plan(spans, model.device)
        if steady:
            self._plans[model.name] = key, plan
        return plan

    def _deliver(
        self, drawing: Sequence[Span], spans: Sequence[Span], logits: Tensor, seen: dict[int, Tensor]
    ) -> None:
        """Hand every row what is its own. An error here ends that row alone."""
        asked = read_heads(spans, seen, asking=True) if seen else {}
        answered = read_heads(spans, seen, asking=False) if seen else {}
        logprobs = logits.float().log_softmax(-1)
        best = logprobs.argmax(-1).tolist() if drawing else []
        turn = 0
        for index, span in enumerate(spans):
            row = span.row
            try:
                if row.asking is not None and index in asked:
                    for head, logit in zip(row.asking.heads, asked[index], strict=True):
                        row.stream.read(head.name, logit)
                if span.draws:
                    token = row.choose(logits[turn], best[turn])
                    row.accept(token, float(logprobs[turn, token]), answered.get(index, ()))
            except Exception as error:
                row.stream.fail(error)
            turn += span.draws

    def _remember(self, model: Model, spans: Sequence[Span], seen: dict[int, Tensor]) -> None:
        """Keep tapped states, and prompts that are read to their end."""
        for span in spans:
            row = span.row
            for layer in row.request.taps:
                states = seen[layer][span.at : span.at + span.count]
                row.stream.tap(layer, states.to("cpu", copy=True))
            if span.prompt and span.first + span.count >= row.boundary and row.request.reuse:
                cache = row.cache.fork(row.boundary, row.boundary)
                if cache is not None:
                    prompt = {at: x[: row.boundary] for at, x in row.stream.states.items()}
                    key = key_of(model.name, row.request.vectors)
                    self.prefixes.put(Prefix(key, row.request.tokens, cache, prompt))
