"""Hostile input finds no server error; the OpenAPI document in the repository is the service's own."""

from __future__ import annotations

import json
from pathlib import Path

from running_service import Serve, Service
from typer.testing import CliRunner

from pilothouse.agents.cli.serve import app as serve_command
from pilothouse.agents.service.faults import Json
from pilothouse.bench.fuzz import Fuzzer
from pilothouse.store.audit import Audit

ROOT = Path(__file__).resolve().parents[3]


def test_the_document_is_in_step() -> None:
    printed = CliRunner().invoke(serve_command, ["openapi"]).stdout
    assert (ROOT / "docs/openapi.json").read_text(encoding="utf-8") == printed, "run `make docs`"


def test_fuzz_from_the_document(serve: Serve) -> None:
    service = serve(requests_per_minute=0)
    document = service.http.get("/openapi.json").json()
    found = Fuzzer(service.url).run(document, 200, seed=0)
    assert found.faults == []
    assert found.cases >= 200
    assert {200, 400, 404, 405, 413} <= found.statuses.keys()
    assert service.http.get("/readyz").status_code == 200
    assert service.desk.gate.inside == 0
    with Audit.open() as audit:
        assert audit.verify().ok
        assert not [row for row in audit.summaries(limit=1000) if row.status == "in_progress"]


def test_the_fuzzer_notices(service: Service) -> None:
    """The control: a service that fails does not pass."""
    service.desk.state = "draining"
    fuzzer = Fuzzer(service.url)
    fuzzer._send("GET", "/v1/models")
    assert [fault.split(":")[1] for fault in fuzzer.faults] == [" status 503"]


def test_any_text_is_valid_json() -> None:
    for text in ("é — 日本 😀", "\ud800", "\u2028\x1b\0", 'a"b\\c'):
        assert json.loads(Json({"text": text}).body) == {"text": text}


def test_errors_quote_no_values(service: Service) -> None:
    secret = "s3cr3t-value"
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": secret}
    refused = service.http.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert secret not in refused.text
    assert json.loads(refused.text)["error"]["param"] == "temperature"
