"""The outer wall: bodies that are too large or too slow, request ids, and headers on every response."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...store.records import new_id
from .faults import Refusal

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
# told of every response: method, the route's template, status, seconds
Told = Callable[[str, str, int, float], None]


class Bounds:
    """ASGI middleware. A request id that is sent comes back; else one is made."""

    def __init__(self, app: ASGIApp, *, body_bytes: int, body_seconds: float, told: Told) -> None:
        self._app, self._bytes, self._seconds, self._told = app, body_bytes, body_seconds, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, within bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Bounded(scope, receive, send, self)
        try:
            await self._app(scope, request.receive, request.send)
        except Exception:
            request.status = request.status or 500  # the response is made outside of this
            raise
        finally:
            route = getattr(scope.get("route"), "path", "")
            self._told(scope["method"], route, request.status, time.perf_counter() - request.begun)

    @property
    def bytes(self) -> int:
        """The most bytes of a body."""
        return self._bytes

    @property
    def seconds(self) -> float:
        """The most seconds that a body may take to arrive."""
        return self._seconds


class _Bounded:
    """One request within its bounds."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, bounds: Bounds) -> None:
        self._receive, self._send, self._bounds = receive, send, bounds
        self.begun, self.status, self._read, self._whole = time.perf_counter(), 0, 0, False
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        self._id = sent if _ID.fullmatch(sent) else new_id().encode()

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        left = self._bounds.seconds - (time.perf_counter() - self.begun)
        try:
            async with asyncio.timeout(left):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(
                408,
                f"the body did not arrive within {self._bounds.seconds:g} s",
                "timeout",
                headers={"connection": "close"},
            ) from None
        self._read += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._read > self._bounds.bytes:
            raise Refusal(
                413,
                f"the body is larger than {self._bounds.bytes:,} bytes; send less",
                "too_large",
                headers={"connection": "close"},
            )
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *HEADERS, (b"x-request-id", self._id)]
        await self._send(message)
