"""A streamed answer, as server-sent events in OpenAI's shape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...store.printable import json_text
from ..answer import Answer, Restart
from ..async_pilot import AnswerStream
from .desk import Desk
from .faults import Refusal, refusal_of

Item = str | Restart | Answer
DONE = b"data: [DONE]\n\n"


class EventStream(Response):
    """Sends the pieces as they come, then the decision, the usage if asked for, and `[DONE]`.

    A client that leaves stops the answer. What fails on the way is said in an event, and no `[DONE]` follows.
    """

    def __init__(
        self,
        desk: Desk,
        caller: str,
        stream: AnswerStream,
        first: Item,
        *,
        headers: Mapping[str, str],
        usage: bool = False,
    ) -> None:
        super().__init__(headers={**headers, "x-accel-buffering": "no"}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._desk, self._caller, self._stream, self._first = desk, caller, stream, first
        self._usage, self._begun = usage, int(time.time())
        self._model = headers.get("x-pilothouse-specialist", "auto")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client leaves."""
        from .chat import gone

        going, saying = asyncio.ensure_future(gone(receive)), asyncio.ensure_future(self._say(send))
        try:
            await asyncio.wait({going, saying}, return_when=asyncio.FIRST_COMPLETED)
            if not saying.done():
                self._desk.meters.left()
            else:
                await saying
        finally:
            going.cancel()
            saying.cancel()
            await asyncio.gather(going, saying, return_exceptions=True)
            await self._stream.aclose()
            self._desk.gate.leave()

    async def _say(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._open(send)
        try:
            await self._item(send, self._first)
            async for item in self._stream:
                await self._item(send, item)
        except Exception as error:
            await self._failed(send, refusal_of(error))
        else:
            await self._done(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _open(self, send: Send) -> None:
        await self._event(send, self._chunk({"role": "assistant", "content": ""}))

    async def _failed(self, send: Send, refusal: Refusal) -> None:
        await self._event(send, refusal.body)

    async def _done(self, send: Send) -> None:
        await send({"type": "http.response.body", "body": DONE, "more_body": True})

    async def _item(self, send: Send, item: Item) -> None:
        if isinstance(item, str):
            await self._event(send, self._chunk({"content": item}))
        elif isinstance(item, Restart):
            withdrawn = {"part": item.part, "text": item.text, "reason": item.reason}
            await self._event(send, self._chunk(None) | {"pilothouse": {"withdrawn": withdrawn}})
        else:
            await self._end(send, item)

    async def _end(self, send: Send, answer: Answer) -> None:
        from .chat import finish_reason

        voyage = self._stream.passage.voyage
        self._desk.answered(self._caller, answer)
        last = self._chunk({}, finish_reason(voyage))
        await self._event(send, last | {"pilothouse": answer.model_dump(mode="json")})
        if self._usage:
            await self._event(send, self._chunk(None) | {"usage": answer.usage.model_dump()})

    def _chunk(self, delta: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {
            "id": f"chatcmpl-{self._stream.passage.voyage.record_id}",
            "object": "chat.completion.chunk",
            "created": self._begun,
            "model": self._model,
            "choices": [choice] if delta is not None else [],
        } | ({"usage": None} if self._usage else {})

    async def _event(self, send: Send, body: dict[str, Any]) -> None:
        data = f"data: {json_text(body)}\n\n".encode()
        await send({"type": "http.response.body", "body": data, "more_body": True})
