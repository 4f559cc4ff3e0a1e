"""Everything that goes wrong, in the one shape that OpenAI's clients read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ...specialists.engines.base import EngineBusy, EngineClosed
from ...store.errors import NotFoundError, PilothouseError, StoreError, UsageError
from ...store.printable import json_text, one_line
from ..passage import AnswerError

logger = logging.getLogger(__name__)
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Json(JSONResponse):
    """JSON with hostile characters escaped; any Python text can be in it."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json_text(content).encode("utf-8") if content is not None else b""


class Refusal(HTTPException):
    """A request that is not carried out: a status, and one sentence that says why and what to do."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Json:
        """The response."""
        return Json(self.body, self.status, self.headers)


class _Told(NamedTuple):
    status: int
    code: str
    message: str | None  # None: the error's own words may be shown


# An error of the machine may quote places on it, which are nobody's business but the operator's.
_OWN: Sequence[tuple[type[PilothouseError], _Told]] = (
    (UsageError, _Told(400, "invalid_value", None)),
    (NotFoundError, _Told(404, "not_found", None)),
    (StoreError, _Told(503, "log_unavailable", "the log cannot be used at the moment; try again later")),
    (EngineBusy, _Told(503, "engine_busy", "the engine is busy; try again later")),
    (EngineClosed, _Told(503, "engine_unavailable", "no engine answers at the moment; try again later")),
    (AnswerError, _Told(500, "answer_failed", "answering failed; the log says why")),
    (PilothouseError, _Told(500, "internal_error", "this service has a fault; its own log says which")),
)


def refusal_of(error: BaseException) -> Refusal:
    """The refusal that a caller gets for any error; what he does not get goes to the service's own log."""
    if isinstance(error, Refusal):
        return error
    told = next((told for kind, told in _OWN if isinstance(error, kind)), _OWN[-1][1])
    if told.message is not None:
        logger.error("%s: %s", type(error).__name__, error, exc_info=None if told.status == 503 else error)
    headers = {"retry-after": "1"} if told.status == 503 else {}
    return Refusal(told.status, told.message or str(error), told.code, headers=headers)


def install(app: FastAPI) -> None:
    """Make every error of `app` come out in this shape."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(PilothouseError, _refused)
    app.add_exception_handler(Exception, _refused)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_exception_handler(HTTPException, _http)


async def _refused(request: Request, error: Exception) -> Json:
    return refusal_of(error).response()


async def _http(request: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    path = one_line(request.url.path, 80)
    said = {404: f"there is nothing at {path}", 405: f"{request.method} is not possible at {path}"}
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    message = said.get(error.status_code, one_line(str(error.detail), 200))
    code = codes.get(error.status_code, "invalid_request")
    return Refusal(error.status_code, message, code, headers=error.headers).response()


async def _unfit(request: Request, error: Exception) -> Json:
    assert isinstance(error, RequestValidationError)
    return unfit(error.errors()).response()


def unfit(errors: Sequence[Any]) -> Refusal:
    """The refusal for what validation found first; it names the parameter and quotes no value."""
    first = errors[0]
    if first["type"] == "unsupported":
        return Refusal(400, first["msg"], "unsupported_parameter", first["ctx"]["name"])
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    name = one_line(".".join(place), 80)
    if first["type"] == "extra_forbidden":
        return Refusal(400, f"unknown parameter {name!r}; leave it out", "unknown_parameter", name)
    if first["type"] == "json_invalid":
        return Refusal(400, "the body is not valid JSON; send one JSON object", "invalid_json")
    if not place:
        return Refusal(400, f"the request cannot be read: {one_line(first['msg'], 200)}", "invalid_request")
    message = first["msg"].removeprefix("Value error, ")
    code = "missing_parameter" if first["type"] == "missing" else "invalid_value"
    return Refusal(400, f"parameter {name!r}: {one_line(message, 300)}", code, name)
