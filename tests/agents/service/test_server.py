"""A server that has its process to itself freezes what is loaded, once, when the model answers."""

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from pilothouse.agents.service import server as module
from pilothouse.agents.service.server import Server, settle


@pytest.mark.parametrize(("alone", "times"), [(True, 1), (False, 0)])
def test_it_settles_once_it_is_ready(monkeypatch: pytest.MonkeyPatch, alone: bool, times: int) -> None:
    settled: list[None] = []
    monkeypatch.setattr(module, "settle", lambda: settled.append(None))
    desk: Any = SimpleNamespace(state="loading")
    server = Server(uvicorn.Config(lambda: None), desk, alone=alone)
    asyncio.run(server.on_tick(1))
    assert not settled
    desk.state = "ready"
    for counter in range(3):
        asyncio.run(server.on_tick(counter))
    assert len(settled) == times


def test_what_is_settled_is_looked_at_no_more() -> None:
    before = gc.get_freeze_count()
    kept = [[number] for number in range(1000)]
    try:
        settle()
        assert gc.get_freeze_count() >= before + len(kept)
        assert not any(item is kept for item in gc.get_objects())
    finally:
        gc.unfreeze()
