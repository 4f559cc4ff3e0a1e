"""The token strip against what decided: at the last token, a probe's value is the recorded logit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from asked import SUM, WORD, page
from fastapi.testclient import TestClient

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.service.app import create_app
from pilothouse.agents.strip import strip
from pilothouse.router.probes.probe import ProbeBank
from pilothouse.store.errors import NotFoundError, UsageError


def test_the_last_token_has_the_logit_that_decided(pilot: Pilot) -> None:
    answer = pilot.ask(SUM)
    found = strip(page(), pilot.ship, 0, "specialist", "sums")
    logit = sum(row["contribution"] for row in answer.features)
    assert found.tokens[-1].value == pytest.approx(logit, abs=1e-4)
    reading = next(row for row in answer.readings if row["probe"] == "outside")
    said = strip(page(), pilot.ship, 0, "reading", "outside")
    assert said.tokens[-1].value == pytest.approx(reading["score"], abs=1e-4)
    assert said.largest == max(abs(token.value) for token in said.tokens)


def test_after_a_conversation_only_the_last_turn_is_pooled(
    pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship = pilot.ship
    scout = ship.scout
    assert scout is not None
    site = replace(scout.bank.site, span="turn")
    monkeypatch.setattr(scout, "bank", ProbeBank([replace(one, site=site) for one in scout.bank.probes]))
    first = pilot.ask(SUM)
    answer = pilot.ask("And what is 8 + 5?", first.thread_id)
    assert len(page().messages) == 3
    row = next(row for row in answer.readings if row["probe"] == "outside")
    assert row["site"].endswith("@turn")
    tokens = ship.engine.encode_chat(page().messages)
    own = len(ship.engine.encode_chat(page().messages[-1:]))
    states = {n: x[-own:] for n, x in ship.engine.probe(tokens, scout.layers).states.items()}
    probe = scout.bank.probe("outside", "reading")
    assert row["score"] == pytest.approx(probe.logit(site.vector(states)), abs=1e-4)
    found = strip(page(), ship, 0, "reading", "outside")
    assert found.tokens[-1].value == pytest.approx(row["score"], abs=1e-4)


def test_the_texts_are_the_conversation(pilot: Pilot) -> None:
    pilot.ask("Spell é🚢.")
    found = strip(page(), pilot.ship, 0, "specialist", "words")
    assert "Spell é🚢." in "".join(token.text for token in found.tokens)


def test_a_feature_is_read_as_the_dictionary_does(pilot: Pilot) -> None:
    pilot.ask(WORD)
    scout = pilot.ship.scout
    assert scout is not None
    layer = min(scout.saes)
    tokens = pilot.ship.engine.encode_chat(page().messages)
    acts = scout.saes[layer].encode(pilot.ship.engine.probe(tokens, scout.layers).states[layer].float())
    number = int(acts.sum(0).argmax())
    found = strip(page(), pilot.ship, 0, "feature", f"{layer}:{number}")
    assert found.largest > 0
    assert [token.value for token in found.tokens] == pytest.approx(acts[:, number].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("part", "kind", "name", "error"),
    [
        (1, "specialist", "sums", NotFoundError),
        (0, "specialist", "nobody", NotFoundError),
        (0, "reading", "sums", NotFoundError),
        (0, "feature", "1:999999", NotFoundError),
        (0, "feature", "99:0", NotFoundError),
        (0, "feature", "one", UsageError),
        (0, "feature", "1:-1", UsageError),
    ],
)
def test_what_cannot_be_read(pilot: Pilot, part: int, kind: Any, name: str, error: type[Exception]) -> None:
    pilot.ask(SUM)
    with pytest.raises(error):
        strip(page(), pilot.ship, part, kind, name)


def test_over_http_from_the_page_only(pilot: Pilot) -> None:
    name = pilot.ask(SUM).record_id
    app = create_app(pilot)
    app.state.desk.state = "ready"
    client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
    url, wanted = f"/audit/records/{name}/strip", {"part": 0, "kind": "specialist", "name": "sums"}
    found = client.post(url, json=wanted)
    assert found.status_code == 200
    assert max(abs(token["value"]) for token in found.json()["tokens"]) == found.json()["largest"] > 0
    assert client.post(url, json=wanted, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post(url, content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post(url, json=wanted | {"kind": "weights"}).status_code == 400
    assert client.post(url, json=wanted | {"name": "nobody"}).status_code == 404
    shown = client.get(f"/audit/records/{name}", headers={"accept": "text/html"}).text
    assert f'data-url="/audit/records/{name}/strip"' in shown
    assert '<option value="specialist sums">' in shown
