"""Spans of answers: the conventions' attributes, no text unless asked for, nothing global."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from running_service import running, wait_ready
from toy_family import ANSWERS

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.tracing import STEPS, Tracing

BODY: Any = {"model": "auto", "messages": [{"role": "user", "content": "What is 3 + 4?"}], "user": "ann"}


def spans(pilot: Pilot, content: bool, **more: Any) -> tuple[list[ReadableSpan], Any]:
    """What is exported of one request to a service."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with running(pilot, tracing=Tracing(provider.get_tracer("test"), content)) as service:
        wait_ready(service)
        answer = service.http.post("/v1/chat/completions", json={**BODY, **more})
    found = list(exporter.get_finished_spans())
    provider.shutdown()
    return found, answer


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_one_span_with_its_steps(pilot: Pilot, stream: bool) -> None:
    found, answer = spans(pilot, content=False, stream=stream)
    whole = next(span for span in found if span.parent is None)
    said = dict(whole.attributes or {})
    assert whole.name == "chat auto"
    assert (said["gen_ai.operation.name"], said["gen_ai.response.model"]) == ("chat", "sums")
    assert said["gen_ai.response.id"] == answer.headers["x-pilothouse-record-id"]
    assert said["gen_ai.response.finish_reasons"] == ("stop",)
    assert float(str(said["gen_ai.usage.output_tokens"])) > 3
    children = [span for span in found if span.parent is not None]
    assert [span.name for span in children] == [f"pilothouse {step}" for step in STEPS]
    assert {span.parent.span_id for span in children if span.parent} == {whole.context.span_id}
    assert whole.start_time is not None
    assert whole.start_time <= min(span.start_time or 0 for span in children)
    everything = repr([(span.name, dict(span.attributes or {})) for span in found])
    for text in ("3 + 4", ANSWERS["sums"], "ann"):
        assert text not in everything


def test_texts_where_they_are_asked_for(pilot: Pilot) -> None:
    found, _ = spans(pilot, content=True)
    said = next(dict(span.attributes or {}) for span in found if span.parent is None)
    assert "3 + 4" in str(said["gen_ai.input.messages"])
    assert ANSWERS["sums"] in str(said["gen_ai.output.messages"])
