"""Every page and its JSON twin: what it shows is what the log says, and the numbers add up."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient
from made_log import POLICY, WEIGHTS

from pilothouse.store.audit import Audit, Filter
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Outcome, Page

PAGES = ("", "/overview", "/features", "/features/7", "/diff", "/whatif", "/verify")


class Text(HTMLParser):
    """The cells of tables and the links of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self.links.append(str(values.get("href")))
        if tag == "table":
            self._table = str(values.get("data-what") or values.get("id") or "")
        if tag == "tr":
            self.rows.setdefault(self._table, []).append([])
        if tag in ("td", "th") and self.rows:
            self.rows[self._table][-1].append("")

    def handle_data(self, data: str) -> None:
        rows = self.rows.get(self._table)
        if rows and rows[-1]:
            rows[-1][-1] += data.strip()


def steered(audit: Audit) -> Page:
    found = audit.latest(Filter(specialist="translate"), limit=60)
    return next(
        page for page in found if page.record.parts[0].steering.entries and not page.record.parts[0].hops
    )


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_a_twin_and_the_headers(client: TestClient, path: str) -> None:
    page = client.get(f"/audit{path}")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?! src=)|<style|style=|javascript:| on\w+=", page.text)
    by_query = client.get(f"/audit{path}?format=json")
    by_header = client.get(f"/audit{path}", headers={"accept": "application/json"})
    assert by_query.headers["content-type"] == by_header.headers["content-type"] == "application/json"
    first, second = by_query.json(), by_header.json()
    for body in (first, second):
        body.pop("at", None)
    assert first == second
    assert "format=json" in page.text


def test_the_list_is_the_log(client: TestClient, audit: Audit) -> None:
    rows = client.get("/audit?format=json&limit=500").json()["rows"]
    assert [row["id"] for row in rows] == [row.id for row in audit.summaries(limit=500)]
    page = Text(client.get("/audit?limit=500").text)
    assert len(page.rows["records"]) == 61
    assert page.rows["records"][1][1].startswith(str(rows[0]["prompt"]))


def test_paging_walks_the_whole_filter(client: TestClient, audit: Audit) -> None:
    seen: list[str] = []
    url = "/audit?status=completed&limit=7"
    while url:
        page = client.get(url).text
        seen += re.findall(r'<tr id="r(\w+)"', page)
        onward = re.search(r'<a rel="next" href="([^"]+)"', page)
        url = onward[1].replace("&amp;", "&") if onward else ""
        assert not url or "status=completed" in url  # the filter stays in the URL
    assert seen == [row.id for row in audit.summaries(Filter(status="completed"), limit=500)]


@pytest.mark.parametrize(
    "query",
    [
        "status=failed",
        "specialist=facts",
        "thread=conversation-3",
        "text=capital",
        "text=dog*&status=completed",
        "since=7d",
        "until=2020-01-01",
        "specialist=%25",
        "text=%22%20OR%20%27%3B--",
    ],
)
def test_filters_are_those_of_the_log(client: TestClient, audit: Audit, query: str) -> None:
    values = dict(pair.split("=") for pair in query.split("&"))
    rows = client.get(f"/audit?format=json&limit=500&{query}").json()["rows"]
    wanted = {"specialist": "%"} if values.get("specialist") == "%25" else values
    if "since" in values:
        assert len(rows) == 60
    elif "%22" not in query:
        until = {"until": "2020-01-01T00:00:00Z"} if "until" in values else wanted
        assert [row["id"] for row in rows] == [row.id for row in audit.summaries(Filter(**until), limit=500)]  # type: ignore[arg-type]
    else:
        assert rows == []


def test_the_search_says_where_it_looks(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not searched: reasons" in client.get("/audit").text
    assert "were looked at" not in client.get("/audit?text=capital").text
    monkeypatch.setattr("pilothouse.store.listing.MOST_TEXTS", 2)
    page = client.get("/audit?text=capital")
    assert "only the newest" in page.text
    assert len(client.get("/audit?text=capital&format=json").json()["rows"]) <= 2


def test_contributions_add_up_to_the_logit(client: TestClient, audit: Audit) -> None:
    for page in audit.latest(limit=30):
        if not page.record.parts:
            continue
        text = Text(client.get(f"/audit/records/{page.record.id}").text)
        values = [float(row[-1]) for row in text.rows["features"][1:]]
        assert len(values) == 13  # twelve rows and their sum
        exact = sum(row.contribution for row in page.record.parts[0].features)
        assert values[-1] == pytest.approx(exact, abs=5e-5)
        assert sum(values[:-1]) == pytest.approx(values[-1], abs=12 * 5e-5 + 5e-5)
        why = client.get(f"/audit/records/{page.record.id}?format=json").json()["parts"][0]["logit"]
        assert sum(row["contribution"] for row in why["rows"]) == pytest.approx(why["logit"], abs=1e-9)
        assert why["logit"] == pytest.approx(exact, abs=1e-9)


def test_the_decision_page_tells_everything(client: TestClient, audit: Audit) -> None:
    page = steered(audit)
    part = page.record.parts[0]
    text = client.get(f"/audit/records/{page.record.id[-8:]}").text
    told = Text(text)
    ranked = [row[0].removesuffix("chosen").strip() for row in told.rows["candidates"][1:]]
    best = sorted(part.candidates, key=lambda one: -one.utility)
    assert ranked == [one.specialist for one in best]
    assert [float(row[2]) for row in told.rows["candidates"][1:]] == [round(one.p_correct, 3) for one in best]
    assert len(told.rows["readings"]) == 1 + len(part.readings)
    assert [row[0] for row in told.rows["steering"][1:]] == ["reply-fr", "calm", "focus"]
    assert "decides at each token" in told.rows["steering"][1][-1]
    assert "always on" in told.rows["steering"][2][-1]
    assert "acts on tokens" in text  # the timeline says the same in words
    assert page.record.row_hash in text
    assert WEIGHTS[0].sha256 in text
    assert part.decision is not None
    assert part.decision.policy_hash[:12] in text


def test_bars_are_as_long_as_their_numbers(client: TestClient, audit: Audit) -> None:
    page = steered(audit)
    text = client.get(f"/audit/records/{page.record.id}").text
    table = text[text.index('data-what="candidates"') :]
    widths = [float(w) for w in re.findall(r'class="fill[^"]*" x="0" y="2" width="([\d.]+)"', table)]
    ticks = [float(x) for x in re.findall(r'class="threshold" x1="([\d.]+)"', table)]
    best = sorted(page.record.parts[0].candidates, key=lambda one: -one.utility)
    for width, one in zip(widths, best, strict=False):
        assert width == pytest.approx(200 * one.p_correct, abs=0.01)
    assert ticks[: len(best)] == [200 * POLICY.threshold] * len(best)


def test_an_escalation_shows_both_attempts(client: TestClient, audit: Audit) -> None:
    page = next(one for one in audit.latest(limit=60) if one.record.parts and one.record.parts[0].hops)
    text = client.get(f"/audit/records/{page.record.id}").text
    assert "Attempt 1:" in text
    assert "Attempt 2:" in text
    assert "wrong sum" in text
    assert "a first try" in text


def test_diff_is_the_logs(client: TestClient, audit: Audit) -> None:
    one, two = (row.id for row in audit.summaries(Filter(specialist="facts"), limit=2))
    body = client.get(f"/audit/diff?left={one}&right={two}&format=json").json()
    assert body["rows"] == [row.model_dump(mode="json") for row in audit.diff(one, two)]
    assert body["rows"]
    assert client.get(f"/v1/records/{one}/diff/{two}").json()["data"] == body["rows"]
    page = client.get(f"/audit/diff?left={one}&right={two}").text
    assert "record.parts[0].candidates[facts].p_correct" in page
    assert "do not differ" in client.get(f"/audit/diff?left={one}&right={one}").text


def test_what_if_decides_as_the_command_does(client: TestClient, audit: Audit) -> None:
    from pilothouse.agents.whatif import changed_policy, what_if

    query = "threshold=0.9&price=facts%3D2&price=stories%3D0.1%2C+arithmetic%3D3&lam=0.2"
    body = client.get(f"/audit/whatif?format=json&{query}").json()["report"]
    policy = changed_policy(POLICY, ["facts=2", "stories=0.1", "arithmetic=3"], 0.2, 0.9)
    plain = what_if(audit.latest(limit=1000), policy, [POLICY]).model_dump(mode="json")
    assert body == plain
    assert body["moved"] > 0
    page = client.get(f"/audit/whatif?{query}").text
    assert "Would have gone to" in page
    assert "What this cannot know" in page
    one = audit.summaries(Filter(specialist="facts"), limit=1)[0].id
    single = client.get(f"/v1/whatif?id={one}&threshold=1").json()["report"]
    assert (single["records"], single["moves"][0]["target"]) == (1, "nobody")
    for wrong in ("threshold=x", "threshold=2", "price=nobody%3D1", "lam=-1"):
        assert client.get(f"/audit/whatif?{wrong}").status_code == 400


def test_overview_counts(client: TestClient, audit: Audit) -> None:
    body = client.get("/audit/overview?format=json").json()
    stats = audit.stats()
    assert body["records"] == stats.records == 60
    assert {key: count for key, count in body["statuses_of"].items() if count} == stats.statuses
    answered = {team["specialists"][0]: team["count"] for team in body["teams"] if team["specialists"]}
    assert answered == {row.specialist: row.answers for row in stats.specialists}
    assert body["latency"]["p50"] == pytest.approx(stats.total_ms_p50)
    assert body["latency"]["p95"] == pytest.approx(stats.total_ms_p95)
    only = client.get("/audit/overview?format=json&specialist=facts").json()
    assert only["records"] == answered["facts"]
    empty = client.get("/audit/overview?until=2020-01-01")
    assert (empty.status_code, "No record fits" in empty.text) == (200, True)


def test_features_tell_where_they_weighed(client: TestClient, audit: Audit) -> None:
    body = client.get("/audit/features/7?format=json").json()
    where = [
        page.record.id
        for page in audit.latest(limit=100)
        for row in (page.record.parts[0].features if page.record.parts else ())
        if row.feature == 7
    ]
    assert sorted(row["record_id"] for row in body["where"]) == sorted(where)
    assert body["label"] == "digits, sums"
    page = client.get("/audit/features/7").text
    assert "how much is 3 x" in page
    assert page.count("<svg") >= 2 + len(where)
    assert client.get("/audit/features/99999").status_code == 404
    assert client.get("/audit/features/99999").headers["content-type"].startswith("text/html")


def test_exports_hold_what_fits(client: TestClient, audit: Audit) -> None:
    wanted = list(audit.pages(Filter(specialist="facts")))
    lines = client.get("/audit/export.jsonl?specialist=facts")
    assert "attachment" in lines.headers["content-disposition"]
    assert [Page.model_validate_json(line) for line in lines.text.splitlines()] == wanted
    rows = list(csv.DictReader(io.StringIO(client.get("/audit/export.csv?specialist=facts").text)))
    assert [row["id"] for row in rows] == [page.record.id for page in wanted]
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is an extra: pip install pilothouse[parquet]"
    )
    table = parquet.read_table(io.BytesIO(client.get("/audit/export.parquet?specialist=facts").content))
    assert table.column("id").to_pylist() == [page.record.id for page in wanted]
    assert client.get("/audit/export.exe").status_code in (400, 422)


def test_the_badge_vouches_for_what_was_checked(
    tmp_path: object, client: TestClient, ledger: Ledger, audit: Audit
) -> None:
    page = client.get("/audit/verify").text
    assert "agrees with its own hashes" in page
    assert audit.verify().tip in page
    assert "chain verified" in client.get("/audit").text
    rows = audit.tip().sequence
    ledger.note(Outcome(record_id=audit.resolve("last"), source="t", verdict="up"))
    assert f"verified to row {rows}" in client.get("/audit").text
    noted = audit.verify().tip
    assert client.get(f"/audit/verify?tip={noted}&format=json").json()["found"]["ok"] is True
    other = noted[:-1] + ("0" if noted[-1] != "0" else "1")
    assert client.get(f"/audit/verify?tip={other}&format=json").json()["found"]["ok"] is False
    assert client.get("/audit/verify?tip=nonsense").status_code == 400


def test_faults_are_told_as_what_was_asked_for(client: TestClient, ledger: Ledger) -> None:
    page = client.get("/audit/records/ffffffffffff")
    assert page.status_code == 404
    assert "no such record" in page.text
    assert page.headers["content-security-policy"]
    as_json = client.get("/audit/records/ffffffffffff", headers={"accept": "application/json"})
    assert (as_json.status_code, as_json.json()["error"]["code"]) == (404, "not_found")
    for text in (page.text, as_json.text, client.get("/audit?before=ffffffffffff").text):
        assert str(ledger.place.path) not in text
    assert client.get("/audit?status=nonsense").status_code == 400
    assert client.get("/audit?limit=0").status_code == 400
    assert client.get("/audit/static/../reply.py").status_code == 404
    assert client.get("/audit/static/%2e%2e%2freply.py").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "origin": "http://evil.example"}, 403),
        ({"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "application/json", "origin": "http://127.0.0.1:81"}, 403),
    ],
)
def test_nobody_elsewhere_can_run_a_replay(client: TestClient, headers: dict[str, str], status: int) -> None:
    for path in ("/audit/records/last/replay", "/v1/records/last/replay"):
        assert client.post(path, content="{}", headers=headers).status_code == status
        assert client.get(path).status_code in (404, 405)


def test_replay_over_http(tiny: object, home: object, neighbour: Callable[[object], TestClient]) -> None:
    from pilothouse.agents.pilot import Pilot
    from pilothouse.agents.service.app import create_app

    with Ledger.open() as ledger, Pilot(tiny.family, ledger, tiny.engine) as pilot:  # type: ignore[attr-defined]
        record_id = pilot.ask("What is 3 + 4?", max_tokens=2).record_id
        app = create_app(pilot)
        app.state.desk.state = "ready"
        client = neighbour(app)
        for path in (f"/audit/records/{record_id}/replay", f"/v1/records/{record_id}/replay"):
            answer = client.post(path, json={}, headers={"origin": "http://127.0.0.1"})
            assert answer.status_code == 200, answer.text
            assert (answer.json()["verdict"], answer.json()["largest"]) == ("reproduced", 0.0)
        assert json.loads(client.get("/audit?format=json").text)["rows"][0]["id"] == record_id
