"""`/v1/chat/completions`: answer, streaming or whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive

from ..answer import Answer, heading
from ..async_pilot import AnswerStream
from ..voyage import Ask, Voyage
from .access import Asker, Caller
from .desk import Desk, desk_of
from .events import EventStream, Item
from .faults import Json, Refusal
from .shapes import ChatCompletion, ChatRequest, ErrorBody

AUTO = "auto"
T = TypeVar("T")
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": about}
    for status, about in {
        400: "A parameter is wrong or not supported",
        401: "No key, or an unknown or revoked one",
        403: "The key may not do this",
        404: "There is no such model or record",
        408: "The body took too long to arrive",
        413: "The body is too large",
        415: "The body is not declared as JSON",
        429: "Too many requests, or too many at once",
        503: "Loading, going, or the log cannot be written",
    }.items()
}
STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
router = APIRouter(tags=["chat"], responses=REFUSALS)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses={200: {"content": STREAM, "description": "The answer; as events when `stream` is true"}},
)
async def chat_completions(body: ChatRequest, request: Request, who: Asker) -> Response:
    """Answer a conversation.

    The record of the decision is on disk before the answer is whole. Headers name it, who answered, and the
    calibrated P(correct). An abstention is an answer; `pilothouse.abstained` says so.
    """
    desk = desk_of(request)
    usage = body.stream_options is not None and body.stream_options.include_usage
    return await served(
        request,
        who,
        ask_of(body, desk),
        live=desk.settings.live if body.pilothouse.live is None else body.pilothouse.live,
        whole=_whole,
        events=partial(EventStream, usage=usage) if body.stream else None,
    )


class Events(Protocol):
    """Makes a streamed response."""

    def __call__(
        self, desk: Desk, caller: str, stream: AnswerStream, first: Item, *, headers: Mapping[str, str]
    ) -> Response:
        """Take over the stream and the caller's place at the gate."""


async def served(
    request: Request,
    who: Caller,
    ask: Ask,
    *,
    live: bool,
    whole: Callable[[Answer, Voyage], dict[str, Any]],
    events: Events | None,
) -> Response:
    """Answer in a protocol's words: `whole` makes the body, or `events` the stream of one.

    Raises Refusal: too much is asked for, or the client left.
    """
    desk = desk_of(request)
    desk.requests.take(who.id)
    desk.tokens.take(who.id, 0.0)
    await desk.gate.enter()
    handed_on = False
    try:
        stream = AnswerStream(desk.pilot, ask, streaming=events is not None, settled=not live)
        if events is None:
            answer = await _unless_gone(request.receive, stream.answer(), desk)
            voyage = stream.passage.voyage
            desk.answered(who.id, answer)
            return Json(whole(answer, voyage), headers=_headers(voyage, answer))
        first = await _unless_gone(request.receive, anext(stream), desk)
        headers = _headers(stream.passage.voyage, first if isinstance(first, Answer) else None)
        handed_on = True
        return events(desk, who.id, stream, first, headers=headers)
    finally:
        if not handed_on:
            desk.gate.leave()


def ask_of(body: ChatRequest, desk: Desk) -> Ask:
    """The request as the pilot takes it. Raises Refusal (400, 404, 413) for what cannot be done."""
    settings, cards = desk.settings, desk.cards
    if body.model != AUTO and body.model not in cards:
        raise Refusal(
            404,
            f"there is no model {body.model!r}; ask for {AUTO} or one of {', '.join(cards)}",
            "model_not_found",
            "model",
        )
    if len(body.messages) > settings.messages:
        said = f"{len(body.messages)} messages; at most {settings.messages} are read"
        raise Refusal(400, said, "too_many_messages", "messages")
    if body.longest is not None and body.longest > settings.max_tokens:
        said = f"max_tokens is {body.longest}; this service gives at most {settings.max_tokens}"
        raise Refusal(400, said, "invalid_value", "max_tokens")
    known, more = desk.ship.vectors, body.pilothouse
    unknown = [name for name in (more.steer.extra if more.steer else ()) if name not in known]
    if unknown:
        said = f"there is no steering vector {unknown[0]!r}; this family has {', '.join(known) or 'none'}"
        raise Refusal(400, said, "invalid_value", "pilothouse.steer.extra")
    return desk.pilot.asked(
        [message.read() for message in body.messages],
        more.thread_id,
        None if body.model == AUTO else body.model,
        max_tokens=body.longest,
        temperature=body.temperature or 0.0,
        seed=body.seed or 0,
        steer=more.steer.read() if more.steer else None,
        parent_id=more.parent_id,
        person=body.user,
        remember=False,  # the client sends the whole conversation each time
    )


async def _unless_gone(receive: Receive, work: Awaitable[T], desk: Desk) -> T:
    """Wait for `work`; when the client goes first, stop it. Raises Refusal, which nobody reads then."""
    working, going = asyncio.ensure_future(work), asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({working, going}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        desk.meters.left()
        raise Refusal(499, "the client left", "client_left")
    finally:
        going.cancel()
        working.cancel()
        await asyncio.gather(working, going, return_exceptions=True)


async def gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(voyage: Voyage, answer: Answer | None) -> dict[str, str]:
    """What is known now: of a stream's first piece, who gave it."""
    specialist, sure = heading(list(voyage.parts.values()))
    found = {"x-pilothouse-record-id": voyage.record_id if voyage.logged else None}
    found["x-pilothouse-specialist"] = answer.specialist if answer else specialist
    confidence = answer.p_correct if answer else sure
    found["x-pilothouse-confidence"] = f"{confidence:.4f}" if confidence is not None else None
    return {name: value for name, value in found.items() if value is not None}


def finish_reason(voyage: Voyage) -> str:
    """`length` when an answer was cut at its token limit, else `stop`."""
    ends = [part.generation.finish_reason for part in voyage.parts.values() if part.generation is not None]
    return "length" if "length" in ends else "stop"


def _whole(answer: Answer, voyage: Voyage) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(voyage), "logprobs": None}
    return {
        "id": f"chatcmpl-{voyage.record_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": answer.specialist or AUTO,
        "choices": [choice],
        "usage": answer.usage.model_dump(),
        "pilothouse": answer.model_dump(mode="json"),
    }
