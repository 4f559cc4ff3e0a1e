"""Fixtures: the tiny family, an empty home, a pilot over both. Makes this folder's helpers importable."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pilothouse.agents.pilot import Pilot
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parent))

from asked import Make
from scripted_engine import ScriptedEngine
from toy_family import Tiny, make_family


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """The tiny family and a loaded engine, made once."""
    torch.set_num_threads(1)
    folder = make_family(tmp_path_factory.mktemp("families") / "tiny")
    engine = TorchEngine(Family.open(folder), "cpu")
    yield Tiny(folder, engine)
    engine.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home for log, conversations, settings and history."""
    for name in list(os.environ):
        if name.startswith("PILOTHOUSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def pilot(tiny: Tiny, home: Path) -> Iterator[Pilot]:
    """A pilot over the tiny family, with a log and conversations of its own."""
    with Ledger.open() as ledger, Pilot(tiny.family, ledger, tiny.engine) as opened:
        yield opened


@pytest.fixture
def scripted(tiny: Tiny, home: Path) -> Iterator[Make]:
    """Make a pilot whose specialists say what a script says."""
    opened: list[Any] = []

    def make(script: dict[str, Any], logprob: float = -0.1, **more: Any) -> tuple[Pilot, ScriptedEngine]:
        engine = ScriptedEngine(tiny.engine, script, logprob)
        ledger = more.pop("ledger", None) or Ledger.open()
        pilot = Pilot(tiny.family, ledger, engine, **more)
        opened.extend([ledger, pilot])
        return pilot, engine

    yield make
    for one in reversed(opened):
        one.close()
