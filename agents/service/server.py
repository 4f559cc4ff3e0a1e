"""Run the application: uvicorn, told to drain before it goes."""

from __future__ import annotations

import asyncio
import gc
from types import FrameType

import uvicorn

from ...store.errors import PilothouseError, UsageError
from ..pilot import Pilot
from .app import create_app
from .desk import Desk
from .settings import ServiceSettings


class Server(uvicorn.Server):
    """Uvicorn, but it turns work away once told to stop, and stops when the pilot cannot load.

    `alone`: the process does nothing else, so it may `settle` once the model answers.
    """

    def __init__(self, config: uvicorn.Config, desk: Desk, *, alone: bool = False) -> None:
        super().__init__(config)
        self._desk = desk
        self._unsettled = alone

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT and SIGTERM: finish what is under way. A second one does not wait."""
        self._desk.drain()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether to stop."""
        if self._unsettled and self._desk.state == "ready":
            self._unsettled = False
            settle()
        return await super().on_tick(counter) or self._desk.state == "failed"


def settle() -> None:
    """Tell the garbage collector that what is loaded stays: looking at all of it takes a tenth of a second,
    which some requests would wait for. For a process that serves and does nothing else.
    """
    gc.collect()
    gc.freeze()


def server_of(pilot: Pilot, settings: ServiceSettings, *, alone: bool = False) -> Server:
    """Make the server; it listens once it runs. `alone` as in `Server`."""
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
    return Server(config, app.state.desk, alone=alone)


def serve(pilot: Pilot, settings: ServiceSettings) -> None:
    """Serve until told to stop.

    Raises UsageError when the address cannot be used, and what kept the pilot from loading.
    """
    server = server_of(pilot, settings, alone=True)
    try:
        asyncio.run(server.serve())
    except SystemExit as leaving:  # uvicorn's word for an address that is taken
        raise UsageError(
            f"{settings.host}:{settings.port} cannot be listened on; choose another --port"
        ) from leaving
    fault = server._desk.fault
    if fault is not None:
        raise fault if isinstance(fault, PilothouseError) else PilothouseError(str(fault)) from fault
