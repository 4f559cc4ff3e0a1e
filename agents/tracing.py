"""Answers as OpenTelemetry spans, in the words of its conventions for generative AI.

The log is the record; this is for watching. Attributes are made when an answer is whole, out of what the log
has too. Texts are left out unless asked for. The conventions are marked experimental: names are kept here, in
one place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from ..store.printable import json_text
from .answer import Answer
from .voyage import Voyage

NANOSECONDS = 1_000_000  # in a millisecond
STEPS = ("probe", "route", "prefill", "decode", "log")


class Tracing:
    """Makes one span an answer, with a child for each step, and sends them wherever `tracer` does.

    `content` adds the prompt's and the answer's text.
    """

    def __init__(
        self, tracer: trace.Tracer, content: bool = False, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._tracer, self._content, self._clock = tracer, content, clock

    def answered(self, answer: Answer, voyage: Voyage) -> None:
        """Make the spans of an answer that is whole now."""
        end = self._clock()
        begin = end - round(answer.timings.total_ms * NANOSECONDS)
        name = f"chat {voyage.ask.specialist or 'auto'}"
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(
                trace.INVALID_SPAN
            ),  # a trace of its own, whatever is under way
            kind=trace.SpanKind.SERVER,
            start_time=begin,
            attributes=self._attributes(answer, voyage),
        )
        within = trace.set_span_in_context(span)
        at = begin
        for step in STEPS:  # the steps follow each other; several parts or attempts are summed up
            spent = round(getattr(answer.timings, f"{step}_ms") * NANOSECONDS)
            child = self._tracer.start_span(f"pilothouse {step}", context=within, start_time=at)
            at += spent
            child.end(at)
        span.end(end)

    def _attributes(self, answer: Answer, voyage: Voyage) -> dict[str, Any]:
        ends = [p.generation.finish_reason for p in voyage.parts.values() if p.generation is not None]
        found: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "pilothouse",
            "gen_ai.request.model": voyage.ask.specialist or "auto",
            "gen_ai.request.max_tokens": voyage.ask.max_tokens,
            "gen_ai.request.temperature": voyage.ask.temperature,
            "gen_ai.request.seed": voyage.ask.seed,
            "gen_ai.response.model": answer.specialist,
            "gen_ai.response.id": answer.record_id,
            "gen_ai.response.finish_reasons": ends,
            "gen_ai.conversation.id": answer.thread_id,
            "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
            "pilothouse.status": answer.status,
            "pilothouse.p_correct": answer.p_correct,
            "pilothouse.steering": [str(entry["name"]) for entry in answer.steering],
        }
        if self._content:
            turns = [{"role": turn.role, "content": turn.content} for turn in voyage.ask.turns]
            found["gen_ai.input.messages"] = json_text(turns)
            found["gen_ai.output.messages"] = json_text([{"role": "assistant", "content": answer.text}])
        return {name: value for name, value in found.items() if value is not None}
