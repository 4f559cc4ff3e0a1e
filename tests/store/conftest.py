"""Logs to test with, and example values."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from pilothouse.store.audit import Audit
from pilothouse.store.database import Place
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import (
    Artifact,
    Candidate,
    Check,
    Decision,
    FeatureContribution,
    Generation,
    Hop,
    Message,
    Part,
    Reading,
    Request,
    SteeringEntry,
    SteeringPlan,
    Timings,
)

CHECKOUT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("child_writer.py")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "data" / "log.db"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the log run on both databases, save those that look at SQLite's file."""
    if "where" in metafunc.fixturenames:
        kinds = ["sqlite"] if "log" in metafunc.fixturenames else ["sqlite", "postgres"]
        metafunc.parametrize("where", kinds, indirect=True)


@pytest.fixture
def where(request: pytest.FixtureRequest) -> str:
    """An empty place for a log."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_place")())
    return str(request.getfixturevalue("log"))


@pytest.fixture
def ledger(where: str) -> Iterator[Ledger]:
    with Ledger.open(where, code="test") as ledger:
        yield ledger


@pytest.fixture
def audit(where: str, ledger: Ledger) -> Iterator[Audit]:
    with Audit.open(where) as audit:
        yield audit


@pytest.fixture
def aged() -> Callable[[str, str], None]:
    """Give a log the seal's unique hashes back, which it had to revision 0003, and call it of `revision`."""

    def make(where: str, revision: str) -> None:
        engine = Place.of(where).writing_engine()
        with engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.connection.dbapi_connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[union-attr]
            with connection.begin():
                operations = Operations(MigrationContext.configure(connection))
                with operations.batch_alter_table("events") as batch:
                    for column in ("prev_hash", "row_hash"):
                        batch.create_unique_constraint(f"uq_events_{column}", [column])
                connection.execute(text("UPDATE pilothouse_schema SET version_num = :is"), {"is": revision})
        engine.dispose()

    return make


@pytest.fixture
def ask() -> Callable[..., Request]:
    """Make a request from a prompt (and the turns before it)."""

    def make(prompt: str, *before: str, **settings: object) -> Request:
        turns = [Message(role="user" if i % 2 == 0 else "assistant", content=t) for i, t in enumerate(before)]
        return Request(messages=(*turns, Message(role="user", content=prompt)), **settings)

    return make


@pytest.fixture
def part() -> Part:
    """A part with something in every field."""
    decision = Decision(
        chosen="arithmetic",
        propensity=0.9,
        lam=0.1,
        threshold=0.3,
        reason="highest utility",
        policy_hash="ab" * 32,
    )
    generation = Generation(
        specialist="arithmetic",
        prompt_tokens=9,
        completion_tokens=3,
        mean_logprob=-0.25,
        finish_reason="stop",
        timings=Timings(probe_ms=1, route_ms=0.5, prefill_ms=8, decode_ms=20, log_ms=2, total_ms=31.5),
        first_token_ms=10.5,
    )
    wrong = decision.model_copy(update={"chosen": "facts"})
    return Part(
        prompt="What is 12 + 5?",
        answer="17",
        readings=(
            Reading(
                probe="harm", site="layer4.last", score=-3.0, probability=0.05, threshold=0.5, fired=False
            ),
        ),
        candidates=(
            Candidate(specialist="arithmetic", p_correct=0.97, cost=1.0, utility=0.87),
            Candidate(specialist="facts", p_correct=0.2, cost=1.0, utility=0.1),
        ),
        features=(
            FeatureContribution(
                specialist="arithmetic", feature=7, label="digits", activation=2.0, contribution=3.0
            ),
            FeatureContribution(
                specialist="arithmetic", feature=None, label="probe bias", activation=1.0, contribution=-0.5
            ),
        ),
        decision=decision,
        steering=SteeringPlan(
            entries=(
                SteeringEntry(
                    name="reply-language",
                    kind="add",
                    layer=4,
                    coefficient=2.5,
                    scope="generation",
                    reading="language-fr",
                    gate="language-fr",
                    sha256="cd" * 32,
                ),
            )
        ),
        generation=generation,
        checks=(Check(verdict="answer", reason="recomputed", score=1.0),),
        hops=(
            Hop(
                decision=wrong,
                generation=generation.model_copy(update={"specialist": "facts"}),
                checks=(Check(verdict="escalate", reason="low probability", score=-2.0),),
                answer="Paris",
            ),
        ),
    )


@pytest.fixture
def weights() -> Artifact:
    return Artifact(kind="adapter", name="arithmetic", sha256="ef" * 32, path="specialists/arithmetic")


@pytest.fixture
def environment() -> dict[str, str]:
    """What a child process needs to import this checkout."""
    return {**os.environ, "PYTHONPATH": str(CHECKOUT / ".typing"), "PYTHONSAFEPATH": "1"}


@pytest.fixture
def spawn(environment: dict[str, str]) -> Callable[..., "subprocess.Popen[str]"]:
    """Start a process that writes to a log (see child_writer.py)."""

    def start(log: Path | str, *arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, str(CHILD), str(log), *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    return start
