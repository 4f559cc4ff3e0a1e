"""The pages that look over many records: overview, features, and the export of what fits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from ...store import flat
from ...store.audit import Audit, Filter
from ..service.desk import desk_of
from . import features, overview
from .filters import WantedQuery
from .reply import AuditRoute, reply

router = APIRouter(prefix="/audit", route_class=AuditRoute, include_in_schema=False)
Kind = Literal["jsonl", "csv", "parquet"]
TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


@router.get("/overview")
def show_overview(request: Request, wanted: WantedQuery) -> Response:
    """Volume, shares, abstentions, calibration, drift and latency of what fits."""
    desk = desk_of(request)
    body = overview.overview_of(desk.audit, wanted.filter)
    extra = {"wanted": wanted, "pictures": overview.drawn(body), "names": list(desk.ship.cards)}
    extra |= {"sizes": {"drift": overview.SAMPLE, "scored": overview.SCORED, "timed": overview.TIMED}}
    return reply(request, "overview.html", {"filter": wanted.given, **body}, extra)


@router.get("/features")
def show_features(request: Request, wanted: WantedQuery) -> Response:
    """The features that weighed most in the newest records that fit."""
    desk = desk_of(request)
    body = features.index_of(desk.audit.latest(wanted.filter, limit=features.SAMPLE))
    return reply(request, "features.html", body, {"wanted": wanted})


@router.get("/features/{feature}")
def show_feature(
    request: Request, wanted: WantedQuery, feature: int, layer: Annotated[int | None, Query(ge=0)] = None
) -> Response:
    """One feature, and the newest decisions in which it weighed."""
    desk = desk_of(request)
    found = desk.audit.latest(wanted.filter, limit=features.SAMPLE)
    body = features.feature_of(found, feature, layer, desk.ship)
    return reply(request, "feature.html", body, {"wanted": wanted, "pictures": features.drawn(body)})


@router.get("/export.{kind}")
def export(request: Request, kind: Kind, wanted: WantedQuery) -> Response:
    """Everything that fits, oldest first, as a file.

    It is written whole before the first byte leaves: a fault on the way is an error, and no short file.
    """
    audit, given = desk_of(request).audit, wanted.filter
    handle, name = tempfile.mkstemp(prefix="pilothouse-", suffix=f".{kind}")  # readable by this user only
    os.close(handle)
    path = Path(name)
    try:
        _WRITERS[kind](audit, given, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return FileResponse(
        path,
        media_type=TYPES[kind],
        filename=f"pilothouse-log.{kind}",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _jsonl(audit: Audit, wanted: Filter, path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        audit.export(out, wanted)


def _csv(audit: Audit, wanted: Filter, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as out:
        flat.write_csv(audit.pages(wanted), out)


def _parquet(audit: Audit, wanted: Filter, path: Path) -> None:
    flat.write_parquet(audit.pages(wanted), path)


_WRITERS: dict[Kind, Callable[[Audit, Filter, Path], None]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "parquet": _parquet,
}
