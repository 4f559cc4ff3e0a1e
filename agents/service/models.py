"""`/v1/models`: `auto`, and the specialists; `/metrics`; `/version`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...store.version import code_version
from .access import Asker, Auditor
from .chat import AUTO, REFUSALS
from .desk import Desk, desk_of
from .faults import Json, Refusal
from .shapes import ModelCard, ModelList

router = APIRouter(tags=["models"], responses={key: REFUSALS[key] for key in (401, 403, 503)})


@router.get("/v1/models", response_model=ModelList)
async def list_models(request: Request, who: Asker) -> Json:
    """List who can be asked."""
    desk = desk_of(request)
    return Json({"object": "list", "data": [_model(desk, name) for name in (AUTO, *desk.cards)]})


@router.get("/v1/models/{name}", response_model=ModelCard, responses={404: REFUSALS[404]})
async def show_model(name: str, request: Request, who: Asker) -> Json:
    """Describe one of them."""
    desk = desk_of(request)
    if name != AUTO and name not in desk.cards:
        raise Refusal(404, "there is no such model; /v1/models lists them", "model_not_found", "model")
    return Json(_model(desk, name))


def _model(desk: Desk, name: str) -> dict[str, Any]:
    about: dict[str, Any] = {"title": "The probes choose", "kind": "auto", "examples": []}
    if name != AUTO:
        card = desk.cards[name]
        about = {"title": card.title, "description": card.description, "kind": card.kind}
        about["examples"] = list(card.examples)
    return {
        "id": name,
        "object": "model",
        "created": desk.since,
        "owned_by": "pilothouse",
        "pilothouse": about,
    }


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, who: Auditor) -> Response:
    """Counters and histograms for Prometheus."""
    return Response(desk_of(request).exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/version")
async def version(request: Request, who: Asker) -> Json:
    """The code that answers, and the artifacts it answers with."""
    artifacts = [artifact.model_dump(exclude={"path"}) for artifact in desk_of(request).ship.artifacts]
    return Json({"code": code_version(), "artifacts": artifacts})
