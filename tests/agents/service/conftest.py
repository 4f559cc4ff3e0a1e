"""Fixtures: a service over the tiny family, or one whose specialists say what a script says."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import ScriptedEngine
from toy_family import Tiny

from pilothouse.agents.pilot import Pilot

sys.path.insert(0, str(Path(__file__).parent))

from running_service import Serve, Service, running, wait_ready


@pytest.fixture
def serve(tiny: Tiny, home: object) -> Iterator[Serve]:
    """Start a service: of a pilot, or of the tiny family, whose specialists may follow a `script`."""
    with ExitStack() as stack:

        def start(pilot: Pilot | None = None, script: Any = None, **settings: Any) -> Service:
            if pilot is None:
                engine = (
                    ScriptedEngine(tiny.engine, {"sums": "7", **script})
                    if script is not None
                    else tiny.engine
                )
                if isinstance(engine, ScriptedEngine):
                    engine.before = lambda name, count: time.sleep(0.005)
                pilot = stack.enter_context(Pilot(tiny.family, engine=engine))
            return wait_ready(stack.enter_context(running(pilot, **settings)))

        yield start


@pytest.fixture
def service(pilot: Pilot) -> Iterator[Service]:
    """The tiny family, served without keys."""
    with running(pilot) as started:
        yield wait_ready(started)
