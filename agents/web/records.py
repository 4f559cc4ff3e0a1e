"""Diff, replay and what if over HTTP, JSON only; the rest of `/v1/records` is the service's own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from ..service.desk import desk_of
from ..service.faults import Json
from . import supposing
from .filters import WantedQuery
from .naming import resolved
from .pages import replayed
from .reply import AuditRoute, same_origin

router = APIRouter(prefix="/v1", tags=["records"], route_class=AuditRoute)
Name = Annotated[
    str, Path(min_length=4, max_length=64, description="An id, its first or last characters, or `last`.")
]


@router.get("/records/{name}/diff/{other}")
def diff_records(
    request: Request,
    name: Name,
    other: Name,
    every: Annotated[bool, Query(alias="all", description="Ids, times and timings too.")] = False,
) -> Json:
    """List the fields in which two records differ."""
    desk = desk_of(request)
    rows = desk.audit.diff(resolved(desk, name), resolved(desk, other), every=every)
    return Json({"object": "list", "data": [row.model_dump(mode="json") for row in rows]})


@router.post("/records/{name}/replay", dependencies=[Depends(same_origin)])
def replay_record(request: Request, name: Name) -> Json:
    """Decide a record again, as it was: the same decision, or the artifact that changed."""
    return Json(replayed(request, name))


@router.get("/whatif")
def suppose_records(
    request: Request,
    wanted: WantedQuery,
    changes: supposing.ChangesQuery,
    name: Annotated[str, Query(alias="id", max_length=64, description="One record instead.")] = "",
) -> Json:
    """Decide the newest records that fit again, under other prices, another lambda or threshold."""
    desk = desk_of(request)
    return Json(supposing.suppose(supposing.meant(desk, wanted, name), desk.ship, changes))
