"""Limits, health, metrics, and going: honest refusals, and nothing under way is lost."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from running_service import Serve, Service, running
from toy_family import Tiny

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.service.faults import Refusal
from pilothouse.agents.service.gate import Allowance
from pilothouse.agents.service.server import serve as serve_forever
from pilothouse.agents.service.settings import ServiceSettings
from pilothouse.store.audit import Audit
from pilothouse.store.errors import NotFoundError, UsageError

CHAT = "/v1/chat/completions"
LONG = " ".join(f"word{i}" for i in range(100))


def body(text: str = "Spell dog.", model: str = "words", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def statuses() -> list[str]:
    with Audit.open() as audit:
        return [row.status for row in audit.summaries()]


# -- sizes and rates ----------------------------------------------------------------------------------------


def test_a_large_body_is_refused(serve: Serve) -> None:
    service = serve(body_bytes=2000)
    for sent in (service.http.post(CHAT, json=body("x" * 3000)), chunked(service, 3000)):
        assert sent.status_code == 413
        assert sent.json()["error"]["code"] == "too_large"
    assert service.http.post(CHAT, json=body()).status_code == 200
    assert len(statuses()) == 1, "what is refused is not asked"


def chunked(service: Service, count: int) -> Any:
    pieces = (b" " * 100 for _ in range(count // 100))
    return service.http.post(CHAT, content=pieces, headers={"content-type": "application/json"})


def test_a_slow_body_is_refused(serve: Serve) -> None:
    service = serve(body_seconds=0.3)
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        client.sendall(f"{head}content-length: 500\r\n\r\n{{".encode())
        begun = time.monotonic()
        answer = client.recv(4000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 10
    assert service.http.get("/readyz").status_code == 200


def test_requests_a_minute(serve: Serve) -> None:
    service = serve(requests_per_minute=2)
    answers = [service.http.post(CHAT, json=body()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(answers[2].headers["retry-after"]) <= 30
    assert service.http.get("/v1/models").status_code == 200, "looking is free"


def test_tokens_a_minute(serve: Serve) -> None:
    service = serve(tokens_per_minute=10)
    answers = [service.http.post(CHAT, json=body()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert "10 tokens a minute" in answers[1].json()["error"]["message"]


def test_an_allowance_refills_and_is_each_callers_own() -> None:
    now = 0.0
    allowance = Allowance(60, "requests", clock=lambda: now)
    for _ in range(60):
        allowance.take("ann")
    with pytest.raises(Refusal, match="wait 1 s"):
        allowance.take("ann")
    allowance.take("bob")
    now = 1.0
    allowance.take("ann")
    with pytest.raises(Refusal):
        allowance.take("ann")
    allowance.charge("ann", 120.0)
    now = 100.0
    with pytest.raises(Refusal, match="wait 2"):
        allowance.take("ann")
    now = 300.0
    allowance.take("ann")
    allowance.charge("ann", 1000.0)
    with pytest.raises(Refusal, match="wait"):
        allowance.take("ann")
    Allowance(0, "requests").take("anybody", 1e9)


def test_too_many_at_once(serve: Serve) -> None:
    service = serve(script={"words": LONG}, concurrency=1, waiting=1)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: service.http.post(CHAT, json=body()), range(6)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(200) >= 2
    assert set(codes) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "overloaded"
    assert statuses() == ["completed"] * codes.count(200), "who is refused leaves no row, who is let in does"


def test_patience_has_an_end(serve: Serve) -> None:
    service = serve(script={"words": LONG}, concurrency=1, waiting=1, wait_seconds=0.1)
    with ThreadPoolExecutor(2) as pool:
        codes = [a.status_code for a in pool.map(lambda _: service.http.post(CHAT, json=body()), range(2))]
    assert sorted(codes) == [200, 429]


# -- health -------------------------------------------------------------------------------------------------


def test_not_ready_before_the_model_answers(tiny: Tiny, home: object) -> None:
    loaded = threading.Event()

    class Late(Pilot):
        def warm(self) -> Pilot:
            loaded.wait(20)
            return super().warm()

    with Late(tiny.family, engine=tiny.engine) as pilot, running(pilot) as service:
        assert service.http.get("/healthz").json() == {"status": "ok"}
        early = service.http.get("/readyz")
        assert (early.status_code, early.json()) == (503, {"status": "loading"})
        refused = service.http.post(CHAT, json=body())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert service.http.get("/v1/models").status_code == 503
        loaded.set()
        for _ in range(500):
            if service.http.get("/readyz").status_code == 200:
                break
            time.sleep(0.01)
        assert service.http.post(CHAT, json=body()).status_code == 200


def test_a_family_that_cannot_load_ends_the_service(home: object) -> None:
    with Pilot("nowhere") as pilot, pytest.raises(NotFoundError, match="nowhere"):
        serve_forever(pilot, ServiceSettings(port=0))


def test_a_taken_port_is_said(service: Service) -> None:
    with pytest.raises(UsageError, match="choose another --port"):
        serve_forever(service.desk.pilot, ServiceSettings(port=service.port))


def test_metrics_count(service: Service) -> None:
    service.http.post(CHAT, json=body())
    service.http.post(CHAT, json=body(n=2))
    service.http.get("/nowhere/at/all")
    text = service.http.get("/metrics").text
    for line in (
        f'pilothouse_requests_total{{method="POST",route="{CHAT}",status="200"}} 1.0',
        f'pilothouse_requests_total{{method="POST",route="{CHAT}",status="400"}} 1.0',
        'pilothouse_requests_total{method="GET",route="none",status="404"} 1.0',
        'pilothouse_answers_total{specialist="words",status="completed"} 1.0',
        'pilothouse_answer_seconds_count{step="total"} 1.0',
        "pilothouse_answers_under_way 0.0",
    ):
        assert line in text, line
    assert "nowhere" not in text, "what strangers send does not become a label"


def test_every_response_has_a_request_id(service: Service) -> None:
    assert (
        service.http.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    )
    made = {service.http.get(path).headers["x-request-id"] for path in ("/healthz", "/nix", "/readyz")}
    assert len(made) == 3
    hostile = service.http.get("/healthz", headers={"x-request-id": "a b\t<script>"}).headers["x-request-id"]
    assert len(hostile) == 32


# -- going --------------------------------------------------------------------------------------------------


def test_what_is_under_way_is_finished(serve: Serve) -> None:
    service = serve(script={"words": LONG})
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(lambda: service.http.post(CHAT, json=body()))
        while not service.desk.gate.inside:
            time.sleep(0.005)
        service.server.handle_exit(signal.SIGTERM, None)
        assert service.desk.state == "draining"
        answer = under_way.result(20)
    assert answer.json()["choices"][0]["message"]["content"] == LONG
    assert statuses() == ["completed"]


def test_what_takes_too_long_is_recorded_as_aborted(tiny: Tiny, home: object) -> None:
    from scripted_engine import ScriptedEngine

    engine = ScriptedEngine(tiny.engine, {"sums": "7", "words": LONG * 20})
    engine.before = lambda name, count: time.sleep(0.005)
    with Pilot(tiny.family, engine=engine) as pilot, running(pilot, drain_seconds=1) as service:
        while service.http.get("/readyz").status_code != 200:
            time.sleep(0.01)
        client = socket.create_connection(("127.0.0.1", service.port))
        sent = json.dumps(body(stream=True, pilothouse={"live": True})).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        client.sendall(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        assert b"200 OK" in client.recv(200)
        service.server.handle_exit(signal.SIGTERM, None)
    client.close()
    assert statuses() == ["aborted"]
