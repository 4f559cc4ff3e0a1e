"""The engine that was named answers; one that does not exist is an error that lists those that do."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_family import Tiny

from pilothouse.agents.cli import console
from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Unlogged
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.store.errors import UsageError


def test_a_named_engine_answers(tiny: Tiny, home: Path) -> None:
    settings = console.settings_with(family=str(tiny.folder), engine="torch", device="cpu")
    with console.open_pilot(settings, no_log=True) as pilot:
        assert isinstance(pilot.ship.engine, TorchEngine)


def test_an_unknown_engine_is_refused(tiny: Tiny, home: Path) -> None:
    with pytest.raises(UsageError, match=r"setting engine is 'abacus' .*'native'"):
        console.settings_with(engine="abacus")
    with Pilot(tiny.folder, Unlogged(), "abacus") as pilot, pytest.raises(UsageError, match="'abacus'"):
        pilot.warm()
