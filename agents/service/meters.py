"""What Prometheus may read. Every service has a registry of its own: nothing is global."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from ...store.sinks import Told
    from ..answer import Answer
    from .gate import Gate

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
STEPS = ("probe", "route", "prefill", "decode", "log", "total")


class Meters:
    """Counters and histograms of one service."""

    def __init__(self, gate: Gate) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        own = self._registry
        self._requests = Counter(
            "pilothouse_requests", "Requests by route and status", ("method", "route", "status"), registry=own
        )
        self._seconds = Histogram(
            "pilothouse_request_seconds",
            "Time to a whole response",
            ("route",),
            buckets=SECONDS,
            registry=own,
        )
        self._answers = Counter(
            "pilothouse_answers",
            "Answers by specialist and how they ended",
            ("specialist", "status"),
            registry=own,
        )
        self._steps = Histogram(
            "pilothouse_answer_seconds",
            "Where an answer's time went",
            ("step",),
            buckets=SECONDS,
            registry=own,
        )
        self._sure = Histogram(
            "pilothouse_answer_confidence",
            "Calibrated P(correct) of what was answered",
            buckets=[tenth / 10 for tenth in range(1, 11)],
            registry=own,
        )
        self._tokens = Counter("pilothouse_tokens", "Tokens read and written", ("kind",), registry=own)
        self._outcomes = Counter("pilothouse_outcomes", "Outcomes taken", registry=own)
        self._left = Counter("pilothouse_departures", "Clients that left before their answer", registry=own)
        self._told = Gauge(
            "pilothouse_sink_records",
            "Closed records by sink: taken, failed to take, dropped",
            ("sink", "result"),
            registry=own,
        )
        Gauge("pilothouse_answers_under_way", "Answers now", registry=own).set_function(lambda: gate.inside)
        Gauge("pilothouse_requests_waiting", "Requests that wait now", registry=own).set_function(
            lambda: gate.waiting
        )

    def responded(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response; what matched no route, or had no proper method, is counted together."""
        known = method if method in ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS") else "other"
        self._requests.labels(known, route or "none", str(status)).inc()
        self._seconds.labels(route or "none").observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count an answer."""
        self._answers.labels(answer.specialist or "none", answer.status).inc()
        for step in STEPS:
            self._steps.labels(step).observe(getattr(answer.timings, f"{step}_ms") / 1e3)
        if answer.p_correct is not None and not answer.abstained:
            self._sure.observe(answer.p_correct)
        self._tokens.labels("prompt").inc(answer.usage.prompt_tokens)
        self._tokens.labels("completion").inc(answer.usage.completion_tokens)

    def left(self) -> None:
        """Count a client that left before its answer was whole."""
        self._left.inc()

    def noted(self) -> None:
        """Count an outcome."""
        self._outcomes.inc()

    def text(self, told: Mapping[str, Told]) -> bytes:
        """The exposition text, with what the log's sinks were `told` so far."""
        for sink, counts in told.items():
            for result, count in counts._asdict().items():
                self._told.labels(sink, result).set(count)
        return generate_latest(self._registry)
