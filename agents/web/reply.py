"""How every page is answered: as HTML or as its JSON twin, behind a policy that lets no foreign code run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from ...store.errors import PilothouseError
from ...store.printable import one_line, visible
from ..service.faults import Json, Refusal, refusal_of, unfit
from .filters import STATUSES, Wanted
from .tip import badge

HERE = Path(__file__).parent
# Nothing runs or loads but our own two files; no page may frame ours, and forms come back to us.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
# What every answer of the service carries (nosniff, no-store) is not said again.
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


def wants_json(request: Request) -> bool:
    """Whether the JSON twin is asked for: `?format=json`, or an Accept that names JSON and no HTML."""
    asked = request.query_params.get("format")
    if asked is not None:
        return asked == "json"
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/html" not in accept


def reply(
    request: Request, template: str, body: Mapping[str, Any], extra: Mapping[str, Any] | None = None
) -> Response:
    """The page, or `body` as JSON. `extra` is what only the template needs: pictures, links."""
    if wants_json(request):
        return Json(body)
    return page(request, template, {**body, **(extra or {})})


def page(request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> Response:
    """The page alone."""
    everywhere = {
        "root": request.scope.get("root_path", ""),
        "twin": _twin(request),
        "badge": badge(request),
        "statuses": STATUSES,
        "wanted": Wanted(),
    }
    text = _templates().get_template(template).render({**everywhere, **values})
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)


def _twin(request: Request) -> str:
    return "?" + str(
        request.query_params.__class__([*request.query_params.multi_items(), ("format", "json")])
    )


class AuditRoute(APIRoute):
    """A route whose answers carry the headers above, and whose errors are pages where one was asked for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await inner(request)
            except (PilothouseError, Refusal, RequestValidationError, HTTPException) as error:
                if "text/html" not in request.headers.get("accept", "") or wants_json(request):
                    raise
                response = _told(request, error)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return handle


def _told(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        refusal = unfit(error.errors())
    elif isinstance(error, HTTPException):
        refusal = Refusal(error.status_code, str(error.detail), "http")
    else:
        refusal = refusal_of(error)
    values = {"status": refusal.status, "message": refusal.message, "badge": None}
    return page(request, "error.html", values, refusal.status)


def same_origin(request: Request) -> None:
    """Refuse a request that another site's page may have made a browser send.

    What runs something takes JSON only: no form of any site can send that, and a script of another site must
    ask first, which is never granted. Raises Refusal (415, 403).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "send application/json", "unsupported_media_type")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if site not in (None, "same-origin", "none") or (origin is not None and origin != own):
        raise Refusal(403, "this may be asked from its own page only", "cross_origin")


# -- templates ---------------------------------------------------------------------------------------------


@cache
def _templates() -> Environment:
    """Everything is escaped, whatever the file's name; an unknown name is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "visible": whole,
        "line": line,
        "number": number,
        "signed": signed,
        "time": when,
        "segment": segment,
    }
    return made


def whole(text: object) -> str:
    """A text as it is, control and reordering characters written out."""
    return visible(str(text))


def line(text: object, width: int = 80) -> str:
    """The beginning of a text, on one line."""
    return one_line(str(text), width)


def segment(text: object) -> str:
    """A text as one part of a path."""
    return quote(str(text), safe="")


def signed(value: float) -> str:
    """A number with its sign and four decimals."""
    return f"{value:+.4f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def when(text: str | None) -> str:
    """A time of the log to the second, in UTC."""
    if text is None:
        return "–"
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")
