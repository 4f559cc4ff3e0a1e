"""The audit's pages: list, decision, diff, replay, what if, verify. Each has a JSON twin (`?format=json`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import FileResponse, RedirectResponse, Response

from ...store.errors import NotFoundError
from ...store.listing import MOST_TEXTS
from ...store.records import Frozen, Page
from ..service.desk import desk_of
from ..service.faults import Json, Refusal
from . import decision, supposing
from .filters import WantedQuery
from .naming import page_of, resolved
from .reply import HERE, AuditRoute, reply, same_origin
from .tip import watch_of

router = APIRouter(prefix="/audit", route_class=AuditRoute, include_in_schema=False)
Limit = Annotated[int, Query(ge=1, le=500)]
Name = Annotated[str, Query(max_length=64)]
SEARCHED = (
    "Searches prompts, earlier turns, answers and error messages that are still kept: whole words in any "
    "order, "
    "word* for a beginning. Not searched: reasons, readings, labels, and texts that were erased or never "
    "kept."
)
CUT = (
    f"More than {MOST_TEXTS:,} texts hold these words: only the newest {MOST_TEXTS:,} were looked at. Narrow "
    "it with another word, or export what fits: that looks at all."
)
FILES = {"audit.css": "text/css", "audit.js": "text/javascript", "icon.svg": "image/svg+xml"}
_replaying = threading.Semaphore(2)  # replays at once: each reads a prompt with the trunk


@router.get("")
def listing(
    request: Request,
    wanted: WantedQuery,
    before: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 50,
) -> Response:
    """The newest records that fit, and where the list goes on."""
    desk = desk_of(request)
    start = resolved(desk, before) if before else None
    found = desk.audit.latest(wanted.filter, limit=limit + 1, before=start)
    rows = [row_of(page) for page in found[:limit]]
    more = rows[-1]["id"] if len(found) > limit else None
    body = {"filter": wanted.given, "rows": rows, "next": more, "searched": SEARCHED if wanted.text else None}
    if wanted.text and desk.audit.more_texts(wanted.text):
        body["searched"] = f"{SEARCHED} {CUT}"
    ship = desk.ship
    extra = {"wanted": wanted, "limit": limit, "before": before, "names": list(ship.cards), "scope": SEARCHED}
    return reply(request, "list.html", body, extra)


def row_of(page: Page) -> dict[str, Any]:
    """One row of the list: the summary, and by how much the first part's decision was clear."""
    from ...store.audit import summary

    first = page.record.parts[0] if page.record.parts else None
    return {
        **summary(page).model_dump(mode="json"),
        "margin": decision.margin(first) if first is not None else None,
        "forced": page.record.request.forced_specialist is not None,
        "erased": page.erased_at is not None,
        "score": _score(page),
    }


def _score(page: Page) -> float | None:
    scores = [one.score for one in page.outcomes if one.score is not None]
    return sum(scores) / len(scores) if scores else None


@router.get("/records/{name}")
def record(request: Request, name: str) -> Response:
    """One decision, whole."""
    page = page_of(desk_of(request), name)
    extra = {"pictures": decision.drawn(page), "record": page.record, "page": page}
    return reply(request, "decision.html", decision.body_of(page), extra)


@router.post("/records/{name}/replay", dependencies=[Depends(same_origin)])
def replay(request: Request, name: str) -> Response:
    """Decide a record again, as it was. Runs the scout; writes nothing."""
    return Json(replayed(request, name))


def replayed(request: Request, name: str) -> dict[str, Any]:
    """The replay of a record. Raises Refusal (503) where enough of them run already."""
    from ..replay import replay as replay_page

    desk = desk_of(request)
    with _one_of_few():
        return replay_page(page_of(desk, name), desk.ship).model_dump(mode="json")


class StripAsked(Frozen):
    """Which part's tokens, tinted by what: `feature` LAYER:NUMBER, or `specialist` or `reading` by name."""

    part: Annotated[int, Field(ge=0, lt=64)] = 0
    kind: Literal["feature", "specialist", "reading"]
    name: Annotated[str, Field(min_length=1, max_length=200)]


@router.post("/records/{name}/strip", dependencies=[Depends(same_origin)])
def strip(request: Request, name: str, asked: StripAsked) -> Response:
    """The tokens of a part, and what a feature or probe says at each. Runs the scout; writes nothing."""
    from ..strip import strip as strip_of

    desk = desk_of(request)
    with _one_of_few():
        found = strip_of(page_of(desk, name), desk.ship, asked.part, asked.kind, asked.name)
    return Json(found.model_dump(mode="json"))


@contextmanager
def _one_of_few() -> Iterator[None]:
    """A place among those who may run the scout. Raises Refusal (503) where there is none."""
    if not _replaying.acquire(blocking=False):
        raise Refusal(503, "other replays are running; try again", "busy", headers={"retry-after": "2"})
    try:
        yield
    finally:
        _replaying.release()


@router.get("/diff")
def diff(
    request: Request, left: Name = "", right: Name = "", every: Annotated[bool, Query(alias="all")] = False
) -> Response:
    """Two records side by side, and every field in which they differ."""
    desk = desk_of(request)
    if not left or not right:
        return reply(
            request,
            "diff.html",
            {"left": left, "right": right, "rows": None},
            {"pages": None, "every": every},
        )
    pages = [page_of(desk, name) for name in (left, right)]
    found = desk.audit.diff(*(page.record.id for page in pages), every=every)
    rows = [row.model_dump(mode="json") for row in found]
    body = {"left": pages[0].record.id, "right": pages[1].record.id, "rows": rows}
    return reply(request, "diff.html", body, {"pages": pages, "every": every})


@router.get("/whatif")
def what_if(
    request: Request,
    wanted: WantedQuery,
    changes: supposing.ChangesQuery,
    name: Annotated[str, Query(alias="id", max_length=64)] = "",
) -> Response:
    """What other prices, another lambda or threshold would have done with a record, or with those that
    fit.
    """
    desk = desk_of(request)
    pages = supposing.meant(desk, wanted, name)
    body = supposing.suppose(pages, desk.ship, changes)
    extra = {"wanted": wanted, "name": name, "changes": changes, "most": supposing.MOST, "read": len(pages)}
    return reply(request, "whatif.html", body, extra)


@router.get("/verify")
def verify(request: Request, tip: Annotated[str | None, Query(max_length=100)] = None) -> Response:
    """Recompute the whole chain now; with a tip noted earlier, check that the log still holds it."""
    checked = watch_of(request).check(desk_of(request), tip or None)
    return reply(request, "verify.html", checked.model_dump(mode="json"), {"tip": tip or ""})


@router.get("/static/{name}")
def static(name: str) -> Response:
    """The style sheet and the script."""
    if name not in FILES:
        raise NotFoundError(f"there is no file {name!r} here")
    return FileResponse(HERE / "static" / name, media_type=FILES[name])


@router.get("/last")
def last(request: Request) -> Response:
    """The newest record."""
    page = page_of(desk_of(request), "last")
    return RedirectResponse(f"{request.scope.get('root_path', '')}/audit/records/{page.record.id}", 302)
