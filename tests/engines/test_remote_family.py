"""A family with a specialist elsewhere: asked for by name or fallen back to, logged like the others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_endpoint import DONE, GOOD, Endpoint, chunk

from pilothouse.agents.pilot import Pilot
from pilothouse.specialists.card import Card, Remote
from pilothouse.specialists.engines.base import NotOffered, Request
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.specialists.integrity import seal
from pilothouse.store.audit import Audit
from pilothouse.store.errors import PilothouseError
from pilothouse.store.ledger import Ledger


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint(GOOD)
    yield made
    made.close()


@pytest.fixture
def family(toy: Path, tmp_path: Path, endpoint: Endpoint) -> Family:
    folder = tmp_path / "mixed"
    shutil.copytree(toy, folder)
    remote = Remote(url=endpoint.url, model="far", patience=5, attempts=1)
    card = Card(name="away", kind="remote", title="Away", description="Elsewhere.", remote=remote)
    card.save(folder / "specialists" / "away")
    settings = Family.open(folder).settings
    settings.model_copy(update={"specialists": (*settings.specialists, "away"), "fallback": "away"}).save(
        folder
    )
    seal(folder)
    return Family.open(folder)


@pytest.fixture
def pilot(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pilot]:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    with Ledger.open() as ledger, Pilot(family, ledger) as opened:
        yield opened


def test_it_answers_and_is_logged(pilot: Pilot, endpoint: Endpoint) -> None:
    for name in (None, "away"):
        answer = pilot.ask("What is 12 + 30?", specialist=name, max_tokens=7)
        assert (answer.text, answer.specialist) == ("The sum is 42.", "away")
        with Audit.open() as audit:
            record = audit.page(str(answer.record_id)).record
        made = record.parts[0].generation
        assert made is not None
        assert (record.status, made.specialist, made.completion_tokens) == ("completed", "away", 4)
        assert made.mean_logprob == pytest.approx(-0.5)
        assert ("remote", "away") in {(one.kind, one.name) for one in record.artifacts}
    assert endpoint.bodies[0]["messages"] == [{"role": "user", "content": "What is 12 + 30?"}]
    assert endpoint.bodies[0]["max_tokens"] == 7


def test_an_answer_without_log_probabilities_stands(pilot: Pilot, endpoint: Endpoint) -> None:
    endpoint.script = [(chunk("Paris."), chunk(finish="stop"), DONE)]
    answer = pilot.ask("What is the capital of France?", specialist="away")
    assert answer.text == "Paris."
    with Audit.open() as audit:
        part = audit.page(str(answer.record_id)).record.parts[0]
    assert part.generation is not None
    assert part.generation.mean_logprob is None
    assert "no log-probabilities" in part.checks[0].reason


def test_a_dead_endpoint_is_a_failed_record(pilot: Pilot, endpoint: Endpoint) -> None:
    endpoint.script = [500]
    with pytest.raises(PilothouseError, match="did not answer"):
        pilot.ask("What is 12 + 30?", specialist="away")
    with Audit.open() as audit:
        assert audit.page("last").record.status == "failed"


def test_the_local_engine_says_that_it_is_elsewhere(family: Family) -> None:
    engine = TorchEngine(family, "cpu")
    try:
        with pytest.raises(NotOffered, match="runs elsewhere"):
            engine.submit(Request((5, 6), "away"))
    finally:
        engine.close()
