"""`/v1/records`: the log's decisions as JSON, and what was learned later about them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from ...store.audit import Filter, Summary
from ...store.errors import NotFoundError
from ...store.records import Outcome, Page, Status, Time
from .access import Auditor
from .chat import REFUSALS
from .desk import Desk, desk_of
from .faults import Json, Refusal
from .shapes import OutcomeRequest

router = APIRouter(
    prefix="/v1/records",
    tags=["records"],
    responses={key: REFUSALS[key] for key in (400, 401, 403, 404, 503)},
)
Name = Annotated[
    str,
    Path(min_length=4, max_length=64, description="An id, its first or last characters, or `last`."),
]
NO_NUL = r"^[^\x00]*$"  # databases end a text there, or refuse it
Word = Annotated[str | None, Query(min_length=1, max_length=255, pattern=NO_NUL)]


class Wanted(Filter):
    """The filters, and how much of what fits; `before` goes on where a list ended."""

    limit: Annotated[int, Query(ge=1, le=200)] = 50
    before: Word = None
    specialist: Word = None
    thread: Word = None
    text: Annotated[
        str | None, Query(min_length=1, max_length=1000, description="All these words, in any text.")
    ] = None
    status: Status | None = None
    since: Time | None = None
    until: Time | None = None


@router.get("")
def list_records(wanted: Annotated[Wanted, Query()], request: Request, who: Auditor) -> Json:
    """List the newest records that fit."""
    audit = desk_of(request).audit
    start = _resolved(desk_of(request), wanted.before) if wanted.before is not None else None
    fit = Filter(**wanted.model_dump(include=set(Filter.model_fields)))
    rows = audit.summaries(fit, limit=wanted.limit + 1, before=start)
    shown: list[Summary] = rows[: wanted.limit]
    body: dict[str, Any] = {"object": "list", "data": [row.model_dump(mode="json") for row in shown]}
    body["has_more"] = len(rows) > len(shown)
    return Json(body)


@router.get("/{name}", response_model=Page)
def show_record(name: Name, request: Request, who: Auditor) -> Json:
    """Show a record: what was asked, read, decided, steered and answered, as far as its text is kept."""
    desk = desk_of(request)
    return Json(desk.audit.page(_resolved(desk, name)).model_dump(mode="json"))


@router.get("/{name}/why")
def explain_record(
    name: Name,
    request: Request,
    who: Auditor,
    causal: Annotated[
        bool, Query(description="Ablate the top features in the scout, and route again.")
    ] = False,
) -> Json:
    """Explain a record: its page; with `causal`, an experiment on the scout."""
    desk = desk_of(request)
    why = desk.pilot.why(_resolved(desk, name), causal)
    return Json(why.model_dump(mode="json") | {"flips": [effect.flips for effect in why.effects]})


@router.get("/{name}/outcomes", response_model=list[Outcome])
def list_outcomes(name: Name, request: Request, who: Auditor) -> Json:
    """List what was learned later about a record."""
    desk = desk_of(request)
    page = desk.audit.page(_resolved(desk, name))
    return Json([outcome.model_dump(mode="json") for outcome in page.outcomes])


@router.post("/{name}/outcomes", response_model=Outcome, status_code=201)
def add_outcome(body: OutcomeRequest, name: Name, request: Request, who: Auditor) -> Json:
    """Write down what was learned later about a record: a thumb, a verifier's word, a label."""
    desk = desk_of(request)
    outcome = desk.pilot.record(
        _resolved(desk, name), body.verdict, body.score, source=body.source, note=body.note
    )
    desk.meters.noted()
    return Json(outcome.model_dump(mode="json"), 201)


def _resolved(desk: Desk, name: str) -> str:
    """The full id. Raises Refusal (404); the log's own words would name its place."""
    try:
        return desk.audit.resolve(name)
    except NotFoundError:
        raise Refusal(404, "there is no such record; /v1/records lists them", "not_found", "name") from None
