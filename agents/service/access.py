"""Who may do what: a bearer key with a scope, or, on this machine only, nobody in particular."""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from ...store.errors import PilothouseError
from .desk import Desk, desk_of
from .faults import Refusal
from .keys import SCOPES, Scope
from .settings import is_loopback

logger = logging.getLogger(__name__)
_bearer = HTTPBearer(
    auto_error=False, description="A key of `pilothouse serve key add`; none is needed on loopback."
)
SAFE = {"GET", "HEAD"}


@dataclass(frozen=True)
class Caller:
    """Who asks: the key's id (an address where no key is needed), and what it may do."""

    id: str
    scopes: tuple[Scope, ...]


async def caller(
    needed: SecurityScopes,
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """The caller, who may do what is needed. Raises Refusal (401, 403)."""
    desk = desk_of(request)
    found = _neighbour(request) if desk.settings.open else _holder(request, desk, bearer)
    for scope in needed.scopes:
        if scope not in found.scopes:
            raise Refusal(
                403, f"this key may not {scope}; use one with the scope {scope}", "insufficient_scope"
            )
    return found


def _neighbour(request: Request) -> Caller:
    """A caller on this machine, who needs no key; but web pages in his browser are not him.

    A page elsewhere can make a browser call this address, directly or under a name of its own (DNS
    rebinding); a proxy on this machine would let the whole world in.
    """
    peer = request.client.host if request.client is not None else ""
    origin = request.headers.get("origin")
    name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    strange = origin is not None and not is_loopback(urlsplit(origin).hostname or "")
    strange |= request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for"))
    if not is_loopback(peer) or not is_loopback(name) or strange or forwarded:
        raise Refusal(
            403, "without keys only this machine is served; start the service with --require-key", "not_local"
        )
    return Caller(peer, SCOPES)


def _holder(request: Request, desk: Desk, bearer: HTTPAuthorizationCredentials | None) -> Caller:
    secret = bearer.credentials if bearer is not None else _password(request)
    try:
        key = desk.keys.find(secret) if secret else None
    except PilothouseError as fault:  # it names the file, which is the operator's business
        logger.error("%s", fault)
        raise Refusal(503, "the keys cannot be read; tell the operator", "keys_unavailable") from None
    if key is None:
        said = "this key is not known" if secret else "a key is needed; send it as a bearer token"
        kind = "Bearer" if not _is_page(request) else 'Basic realm="pilothouse", charset="UTF-8"'
        raise Refusal(401, said, "invalid_api_key", headers={"www-authenticate": kind})
    return Caller(key.id, key.scopes)


def _password(request: Request) -> str:
    """The key as a browser sends it: as the password of HTTP Basic.

    A browser sends it along with whatever any page makes it ask, so it counts for reading, and for pages of
    our own.
    """
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    own = request.headers.get("sec-fetch-site") == "same-origin"
    if kind.lower() != "basic" or (request.method not in SAFE and not own):
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _is_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


Asker = Annotated[Caller, Security(caller, scopes=["ask"])]
Auditor = Annotated[Caller, Security(caller, scopes=["audit"])]
