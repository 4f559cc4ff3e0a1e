"""The application: routes over one pilot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from fastapi import FastAPI, Security

from ...store.version import code_version
from ..pilot import Pilot
from . import chat, faults, health, models, records, responses
from .access import caller
from .bounds import Bounds
from .desk import Desk
from .settings import ServiceSettings
from .shapes import ErrorBody


def create_app(pilot: Pilot, settings: ServiceSettings | None = None) -> FastAPI:
    """Make the application. The pilot is loaded when the application starts, and is not closed by it."""
    app = FastAPI(
        title="Pilothouse",
        description="Chat as OpenAI does it, over specialists chosen by probes; and every decision's record.",
        version=code_version().partition("+")[0],
        lifespan=_lifespan,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        responses={"default": {"model": ErrorBody, "description": "Any refusal or fault"}},
    )
    desk = app.state.desk = Desk(pilot, settings or ServiceSettings())
    faults.install(app)
    for router in (chat.router, responses.router, models.router, records.router, health.router):
        app.include_router(router)
    _include_pages(app)
    app.add_middleware(
        Bounds,
        body_bytes=desk.settings.body_bytes,
        body_seconds=desk.settings.body_seconds,
        told=desk.meters.responded,
    )
    return app


def _include_pages(app: FastAPI) -> None:
    """The audit pages, diff and replay: every router of `agents.web.routes`, for keys that may audit.

    A handler there reaches the pilot and the log by `desk_of(request)`, and refuses with `faults.Refusal`.
    """
    if find_spec("..web", __package__) is None:
        return
    from ..web import routes

    for router in routes.ROUTERS:
        app.include_router(router, dependencies=[Security(caller, scopes=["audit"])])


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    warming = asyncio.create_task(desk.warm())
    try:
        yield
    finally:
        desk.drain()
        await warming
        await asyncio.to_thread(desk.close)
