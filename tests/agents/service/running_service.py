"""A service that really listens, for tests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
from openai import OpenAI

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.service.desk import Desk
from pilothouse.agents.service.server import Server, server_of
from pilothouse.agents.service.settings import ServiceSettings


class Service(NamedTuple):
    """A running service, and ways to call it."""

    server: Server
    desk: Desk
    url: str
    port: int
    http: httpx.Client
    openai: OpenAI


Serve = Callable[..., Service]


@contextmanager
def running(pilot: Pilot, **settings: Any) -> Iterator[Service]:
    """Serve a pilot from a thread, on a free port."""
    chosen = ServiceSettings(**{"port": 0, "drain_seconds": 5, **settings})
    server = server_of(pilot, chosen)
    desk: Desk = server.config.app.state.desk  # type: ignore[union-attr]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not (server.started and server.servers):
        assert thread.is_alive(), "the service did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (
        httpx.Client(base_url=url, timeout=20) as http,
        OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20) as client,
    ):
        try:
            yield Service(server, desk, url, port, http, client)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the service did not stop"


def wait_ready(service: Service) -> Service:
    while service.http.get("/readyz").status_code != 200:
        assert service.desk.state != "failed", service.desk.fault
        time.sleep(0.01)
    return service
