"""Whether the process lives, and whether it answers."""

from __future__ import annotations

from fastapi import APIRouter, Request

from .desk import desk_of
from .faults import Json

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Json:
    """The process lives."""
    return Json({"status": "ok"})


@router.get("/readyz", responses={503: {"description": "Still loading, failed, or on its way out"}})
async def readyz(request: Request) -> Json:
    """The model answers: 503 until it does, and again once the service is told to stop."""
    state = desk_of(request).state
    headers = {} if state == "ready" else {"retry-after": "1"}
    return Json({"status": state}, 200 if state == "ready" else 503, headers)
