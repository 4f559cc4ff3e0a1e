"""The audit application over a made log, and a client on this machine. Makes the helpers here importable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parent))

from made_log import application, fill, local

Client = TestClient
Fetch = Callable[..., str]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A log of sixty records, shared by a file's tests."""
    with Ledger.open(tmp_path_factory.mktemp("log") / "log.db", code="made") as ledger:
        fill(ledger, 60)
        yield ledger


@pytest.fixture(scope="module")
def audit(ledger: Ledger) -> Iterator[Audit]:
    with Audit.open(ledger.place.path) as audit:
        yield audit


@pytest.fixture(scope="module")
def client(ledger: Ledger) -> TestClient:
    """A browser's neighbour: loopback on both sides, as a service without keys asks."""
    return local(application(ledger))


@pytest.fixture
def neighbour() -> Callable[[object], TestClient]:
    """Open a client of an application on the same machine."""
    return local
