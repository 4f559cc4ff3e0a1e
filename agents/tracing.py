"""Answers as OpenTelemetry spans, in the words of its conventions for generative AI: a sink of the log.

The log is the record; this is for watching. Spans are made of a record's page once it is on disk. Texts are
left out unless asked for. The conventions are marked experimental: names are kept here, in one place.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opentelemetry import trace

from ..store.errors import UsageError
from ..store.printable import json_text
from ..store.records import Page
from .answer import heading, usage_of

NANOSECONDS = 1_000_000  # in a millisecond
STEPS = ("probe", "route", "prefill", "decode")


def sink() -> Tracing:
    """The sink `opentelemetry`: spans go where the process's tracer provider sends them.

    Raises UsageError where none is set: then every span would be lost.
    """
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        raise UsageError(
            "the sink 'opentelemetry' has no tracer provider to send spans to; start the program under "
            "opentelemetry-instrument, or set a provider first (opentelemetry.trace.set_tracer_provider)"
        )
    return Tracing(trace.get_tracer("pilothouse"))


class Tracing:
    """Makes one span a record, with a child for each step, and sends them wherever `tracer` does.

    `content` adds the prompt's and the answer's text, as far as the log keeps them.
    """

    def __init__(self, tracer: trace.Tracer, content: bool = False) -> None:
        self._tracer, self._content = tracer, content

    def closed(self, page: Page) -> None:
        """Make the spans of a record."""
        record = page.record
        begin, end = _nanoseconds(record.created_at), _nanoseconds(record.closed_at or record.created_at)
        span = self._tracer.start_span(
            f"chat {record.request.forced_specialist or 'auto'}",
            context=trace.set_span_in_context(
                trace.INVALID_SPAN
            ),  # a trace of its own, whatever is under way
            kind=trace.SpanKind.SERVER,
            start_time=begin,
            attributes=self._attributes(page),
        )
        if record.status == "failed":
            span.set_status(trace.StatusCode.ERROR)
        within = trace.set_span_in_context(span)
        at = begin
        tries = [
            g for part in record.parts for g in (*(hop.generation for hop in part.hops), part.generation)
        ]
        for step in STEPS:  # the steps follow each other; several parts or attempts are summed up
            spent = sum(getattr(one.timings, f"{step}_ms") for one in tries if one is not None)
            child = self._tracer.start_span(f"pilothouse {step}", context=within, start_time=at)
            at += round(spent * NANOSECONDS)
            child.end(at)
        span.end(max(at, end))

    def close(self) -> None:
        """The provider is its owner's, who flushes and ends it."""

    def _attributes(self, page: Page) -> dict[str, Any]:
        record, asked = page.record, page.record.request
        specialist, p_correct = heading(record.parts)
        usage = usage_of(record.parts)
        ends = [part.generation.finish_reason for part in record.parts if part.generation is not None]
        found: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "pilothouse",
            "gen_ai.request.model": asked.forced_specialist or "auto",
            "gen_ai.request.max_tokens": asked.max_tokens,
            "gen_ai.request.temperature": asked.temperature,
            "gen_ai.request.seed": asked.seed,
            "gen_ai.response.model": specialist,
            "gen_ai.response.id": record.id,
            "gen_ai.response.finish_reasons": [end for end in ends if end is not None],
            "gen_ai.conversation.id": record.thread_id,
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "pilothouse.status": record.status,
            "pilothouse.p_correct": p_correct,
            "pilothouse.steering": [entry.name for part in record.parts for entry in part.steering.entries],
        }
        if self._content:
            turns = [{"role": turn.role, "content": turn.content} for turn in page.messages]
            found["gen_ai.input.messages"] = json_text(turns)
            found["gen_ai.output.messages"] = json_text([{"role": "assistant", "content": page.answer}])
        return {name: value for name, value in found.items() if value is not None}


def _nanoseconds(moment: str) -> int:
    """A time of the log as OpenTelemetry counts, from 1970."""
    seconds, _, fraction = moment.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(f"{seconds}+00:00").timestamp())
    return whole * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])
