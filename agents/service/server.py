"""Run the application: uvicorn, told to drain before it goes."""

from __future__ import annotations

import asyncio
from types import FrameType

import uvicorn

from ...store.errors import PilothouseError, UsageError
from ..pilot import Pilot
from .app import create_app
from .desk import Desk
from .settings import ServiceSettings


class Server(uvicorn.Server):
    """Uvicorn, but it turns work away once told to stop, and stops when the pilot cannot load."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT and SIGTERM: finish what is under way. A second one does not wait."""
        self._desk.drain()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether to stop."""
        return await super().on_tick(counter) or self._desk.state == "failed"


def server_of(pilot: Pilot, settings: ServiceSettings) -> Server:
    """Make the server; it listens once it runs."""
    app = create_app(pilot, settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="h11",  # whose limits are set here; a faster parser that happens to be installed has others
        log_config=None,
        access_log=False,  # lines with paths and addresses are the proxy's business; /metrics counts
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        h11_max_incomplete_event_size=64 * 1024,
    )
    return Server(config, app.state.desk)


def serve(pilot: Pilot, settings: ServiceSettings) -> None:
    """Serve until told to stop.

    Raises UsageError when the address cannot be used, and what kept the pilot from loading.
    """
    server = server_of(pilot, settings)
    try:
        asyncio.run(server.serve())
    except SystemExit as leaving:  # uvicorn's word for an address that is taken
        raise UsageError(
            f"{settings.host}:{settings.port} cannot be listened on; choose another --port"
        ) from leaving
    fault = server._desk.fault
    if fault is not None:
        raise fault if isinstance(fault, PilothouseError) else PilothouseError(str(fault)) from fault
