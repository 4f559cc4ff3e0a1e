"""`/v1/records`: list, filter, show, why, outcomes."""

from __future__ import annotations

from typing import Any

import pytest
from running_service import Serve, Service
from toy_family import Tiny

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Unlogged
from pilothouse.store.audit import Audit, Filter
from pilothouse.store.ledger import Ledger

SUM, WORD, LOST = "What is 3 + 4?", "Spell dog.", "zzq#@@xvjk#q%w"
RECORDS = "/v1/records"


@pytest.fixture
def asked(service: Service) -> tuple[Service, list[str]]:
    """Three records, oldest first."""
    answers = [service.desk.pilot.ask(text, f"t{n}") for n, text in enumerate((SUM, WORD, LOST))]
    return service, [str(answer.record_id) for answer in answers]


def listed(service: Service, **query: Any) -> list[str]:
    found = service.http.get(RECORDS, params=query)
    assert found.status_code == 200, found.text
    return [row["id"] for row in found.json()["data"]]


def test_list_filter_and_go_on(asked: tuple[Service, list[str]]) -> None:
    service, (one, two, three) = asked
    assert listed(service) == [three, two, one]
    assert listed(service, status="abstained") == [three]
    assert listed(service, specialist="sums") == [one]
    assert listed(service, thread="t1") == [two]
    assert listed(service, text="spell") == [two]
    assert listed(service, since="2000-01-01T00:00Z", until="2001-01-01T00:00Z") == []
    first = service.http.get(RECORDS, params={"limit": 2}).json()
    assert ([row["id"] for row in first["data"]], first["has_more"]) == ([three, two], True)
    rest = service.http.get(RECORDS, params={"limit": 2, "before": two}).json()
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == ([one], False)


WRONG: list[dict[str, Any]] = [
    {"status": "nice"}, {"limit": 0}, {"limit": 1000}, {"limit": "x"}, {"since": "yesterday"},
    {"since": "2026-01-01T00:00"}, {"since": "0001-01-01T00:00+14:00"}, {"colour": "red"}, {"text": " "},
    {"specialist": ""}, {"before": "xy"},
]  # fmt: skip


def test_wrong_filters_are_refused(asked: tuple[Service, list[str]]) -> None:
    for query in WRONG:
        found = asked[0].http.get(RECORDS, params=query)
        assert found.status_code == 400, (query, found.text)
        assert found.json()["error"]["type"] == "invalid_request_error"


METACHARACTERS = [
    "'",
    '"',
    "%",
    "_",
    "\\",
    ";--",
    "' OR 1=1 --",
    "*",
    "a*",
    "NEAR(",
    "^x",
    "{",
    "\x00",
    "a\nb",
]


def test_metacharacters_find_nothing_and_break_nothing(asked: tuple[Service, list[str]]) -> None:
    service, ids = asked
    for field in ("specialist", "thread", "text", "before"):
        for text in METACHARACTERS:
            found = service.http.get(RECORDS, params={field: text * 4 if field == "before" else text})
            assert found.status_code in (200, 400, 404), (field, text, found.text)
            if found.status_code == 200 and field != "text":
                assert found.json()["data"] == []
    assert listed(service) == ids[::-1]


def test_show_and_why(asked: tuple[Service, list[str]]) -> None:
    service, (one, *_) = asked
    page = service.http.get(f"{RECORDS}/{one}").json()
    with Audit.open() as audit:
        assert page == audit.page(one).model_dump(mode="json")
    assert service.http.get(f"{RECORDS}/{one[-8:]}").json() == page
    why = service.http.get(f"{RECORDS}/{one}/why").json()
    assert (why["page"]["record"]["id"], why["effects"], why["flips"]) == (one, [], [])
    causal = service.http.get(f"{RECORDS}/{one}/why", params={"causal": "true"}).json()
    assert len(causal["effects"]) == len(causal["flips"]) == 1


NOBODY = ("0123456789abcdef", "%2e%2e%2f%2e%2e", "..%5c..", "%00%00%00%00", "';--")


def test_unknown_records_are_not_found(asked: tuple[Service, list[str]]) -> None:
    for name in NOBODY:
        for path in (f"{RECORDS}/{name}", f"{RECORDS}/{name}/why", f"{RECORDS}/{name}/outcomes"):
            found = asked[0].http.get(path)
            assert found.status_code == 404, path
            assert "log.db" not in found.text


def test_outcomes(asked: tuple[Service, list[str]]) -> None:
    service, (one, *_) = asked
    path = f"{RECORDS}/{one}/outcomes"
    made = service.http.post(path, json={"verdict": "up", "score": 1, "note": "<b>good</b>"})
    assert made.status_code == 201
    assert made.json()["record_id"] == one
    assert [row["verdict"] for row in service.http.get(path).json()] == ["up"]
    assert service.http.get(f"{RECORDS}/{one}").json()["outcomes"] == [made.json()]
    for wrong in ({}, {"verdict": ""}, {"verdict": "up", "score": "high"}, {"verdict": "up", "x": 1}):
        assert service.http.post(path, json=wrong).status_code == 400
    with Audit.open() as audit:
        assert audit.verify().ok
        assert len(audit.summaries(Filter())) == 3


def test_without_a_log_there_are_no_records(serve: Serve, tiny: Tiny) -> None:
    with Pilot(tiny.family, Unlogged(), tiny.engine) as pilot:
        service = serve(pilot)
        found = service.http.get(RECORDS)
        assert (found.status_code, "nothing is logged" in found.text) == (400, True)
        answer = service.http.post(
            "/v1/chat/completions", json={"model": "auto", "messages": [{"role": "user", "content": SUM}]}
        )
        assert answer.status_code == 200
        assert "x-pilothouse-record-id" not in answer.headers


def test_erased_texts_are_not_shown(asked: tuple[Service, list[str]]) -> None:
    service, (one, *_) = asked
    log = service.desk.pilot.ship.log
    assert isinstance(log, Ledger)
    log.forget(record_id=one)
    page = service.http.get(f"{RECORDS}/{one}").json()
    assert (page["prompt"], page["answer"], page["record"]["id"]) == (None, None, one)
