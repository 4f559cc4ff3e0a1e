"""The Ray Serve application: `serve run pilothouse.agents.deploy.app:application family=starter`.

Controllers are the replicas that HTTP reaches: each is the whole service (routes, probes, policy, log),
without weights. Engines are a deployment of their own, with the weights. All controllers write to one
PostgreSQL log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ...store.errors import UsageError
from .fleet import Fleet, require_shared

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ..pilot import Pilot

ENGINES, CONTROLLERS = "Engines", "Controllers"


def application(args: Mapping[str, Any]) -> Any:
    """Make the application (`ray.serve.Application`) from the arguments of `Fleet`.

    Raises UsageError for an argument that does not fit, and where Ray is not installed.
    """
    serve, fleet = _serve(), Fleet.of(args)
    from .replica import EngineReplica

    waiting = 4 * fleet.concurrency
    engines = serve.deployment(
        EngineReplica,
        name=ENGINES,
        num_replicas=fleet.engines,
        max_ongoing_requests=waiting,
        ray_actor_options={"num_cpus": fleet.engine_cpus, "num_gpus": fleet.engine_gpus},
    )
    controllers = serve.deployment(
        serve.ingress(_builder(fleet))(),
        name=CONTROLLERS,
        num_replicas=fleet.controllers,
        max_ongoing_requests=fleet.concurrency + 2 * waiting,  # the gate inside says 429, with a reason
        ray_actor_options={"num_cpus": fleet.controller_cpus},
    )
    return controllers.bind(engines.bind(fleet))


def _serve() -> Any:
    if find_spec("ray") is None:
        raise UsageError("several machines need Ray; install: pip install 'pilothouse[ray,serve,postgres]'")
    return import_module("ray.serve")


def _builder(fleet: Fleet) -> Callable[[], Any]:
    def build() -> FastAPI:
        serve = _serve()
        name = serve.get_replica_context().app_name
        return controller(fleet, serve.get_deployment_handle(ENGINES, app_name=name))

    return build


def controller(fleet: Fleet, engines: Any) -> FastAPI:
    """One controller over the handle of the engines. It counts as started once a model answers."""
    from langgraph.checkpoint.memory import InMemorySaver

    from ...specialists.family import Family
    from ...store.database import Place
    from ...store.ledger import Ledger
    from ..pilot import Pilot
    from ..service.app import create_app
    from ..service.settings import ServiceSettings
    from .engine import ClusterEngine

    place = Place.of(fleet.log)
    require_shared(place)
    family = Family.open(fleet.family)
    ledger = Ledger.open(place.where, sinks=fleet.sinks)
    pilot = Pilot(family, ledger, ClusterEngine(engines, family, fleet.patience), threads=InMemorySaver())
    keys = {"keys": fleet.keys} if fleet.keys is not None else {}
    settings = ServiceSettings(
        open=fleet.open,
        concurrency=fleet.concurrency,
        requests_per_minute=fleet.requests_per_minute,
        **keys,
    )
    app = create_app(pilot, settings)
    app.router.lifespan_context = _ready_at_start(app, pilot, ledger)
    return app


def _ready_at_start(app: FastAPI, pilot: Pilot, ledger: Any) -> Callable[[Any], Any]:
    """The application's own lifespan; its start ends once the model answers, and its end closes the log."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[None]:
        desk = started.state.desk
        try:
            async with inner(started):
                while desk.state == "loading":
                    await asyncio.sleep(0.05)
                if desk.fault is not None:
                    raise desk.fault
                yield
        finally:
            await asyncio.to_thread(pilot.close)
            await asyncio.to_thread(ledger.close)

    return lifespan
