"""Spans of answers: the conventions' attributes, no text unless asked for, nothing global."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from running_service import running, wait_ready
from toy_family import ANSWERS, Tiny

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.tracing import STEPS, Tracing
from pilothouse.store.errors import UsageError
from pilothouse.store.ledger import Ledger

BODY: Any = {"model": "auto", "messages": [{"role": "user", "content": "What is 3 + 4?"}], "user": "ann"}


def spans(tiny: Tiny, content: bool, **more: Any) -> tuple[list[ReadableSpan], Any]:
    """What is exported of one request to a service whose log has the sink."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider.get_tracer("test"), content)
    with (
        Ledger.open(sinks=[tracing]) as ledger,
        Pilot(tiny.family, ledger, tiny.engine) as pilot,
        running(pilot) as service,
    ):
        wait_ready(service)
        answer = service.http.post("/v1/chat/completions", json={**BODY, **more})
        metrics = service.http.get("/metrics").text
    assert 'pilothouse_sink_records{result="failed",sink="Tracing"} 0.0' in metrics
    found = list(exporter.get_finished_spans())
    provider.shutdown()
    return found, answer


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_one_span_with_its_steps(tiny: Tiny, home: Path, stream: bool) -> None:
    found, answer = spans(tiny, content=False, stream=stream)
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
    assert (whole.end_time or 0) > max(span.start_time or 0 for span in children) >= whole.start_time
    assert whole.start_time <= min(span.start_time or 0 for span in children)
    everything = repr([(span.name, dict(span.attributes or {})) for span in found])
    for text in ("3 + 4", ANSWERS["sums"], "ann"):
        assert text not in everything


def test_texts_where_they_are_asked_for(tiny: Tiny, home: Path) -> None:
    found, _ = spans(tiny, content=True)
    said = next(dict(span.attributes or {}) for span in found if span.parent is None)
    assert "3 + 4" in str(said["gen_ai.input.messages"])
    assert ANSWERS["sums"] in str(said["gen_ai.output.messages"])


def test_by_name_it_wants_a_provider(home: Path) -> None:
    with pytest.raises(UsageError, match="no tracer provider"):
        Ledger.open(sinks=["opentelemetry"])
