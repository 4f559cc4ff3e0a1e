"""`/v1/responses`: the same answers in the words of OpenAI's newer protocol, whole or as events."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field, model_validator
from starlette.responses import Response
from starlette.types import Send

from ...store.printable import json_text
from ..answer import Answer, Restart
from ..voyage import Voyage
from .access import Asker
from .chat import AUTO, REFUSALS, STREAM, ask_of, finish_reason, served
from .desk import desk_of
from .events import EventStream, Item
from .faults import Refusal
from .shapes import Body, ChatMessage, ChatRequest, Extension, ResponseBody, TextPart, without_neutral

# Parameters that this service has no use for, and the values that ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "include": ([],),
    "metadata": ({},),
    "parallel_tool_calls": (True, False),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "text": ({"format": {"type": "text"}},),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "top_p": (1,),
    "truncation": ("auto",),  # the oldest turns of a long conversation are left out
}
router = APIRouter(tags=["chat"], responses=REFUSALS)


class InputText(Body):
    """A piece of a turn's content."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] = Field(default=[], max_length=0)


class InputMessage(Body):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText]

    def read(self) -> ChatMessage:
        """The turn in the words of chat completions."""
        parts = self.content if isinstance(self.content, list) else []
        content = [TextPart(type="text", text=part.text) for part in parts] if parts else self.content
        return ChatMessage.model_validate({"role": self.role, "content": content})


class ResponseRequest(Body):
    """A response. `model` is `auto`, and the probes choose, or a specialist; `input` is the conversation.

    The service remembers no conversation: send all of it each time.
    """

    model: str = Field(min_length=1, max_length=200)
    input: str | list[InputMessage] = Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    stream: bool | None = None
    user: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    pilothouse: Extension = Extension()

    @model_validator(mode="before")
    @classmethod
    def _neutral(cls, sent: Any) -> Any:
        return without_neutral(sent, NEUTRAL)

    def read(self) -> ChatRequest:
        """The request in the words of chat completions."""
        turns = [ChatMessage(role="system", content=self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            turns.append(ChatMessage(role="user", content=self.input))
        else:
            turns += [turn.read() for turn in self.input]
        return ChatRequest(
            model=self.model,
            messages=turns,
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            user=self.user,
            pilothouse=self.pilothouse,
        )


@router.post(
    "/v1/responses",
    response_model=ResponseBody,
    responses={200: {"content": STREAM, "description": "The answer; as events when `stream` is true"}},
)
async def responses(body: ResponseRequest, request: Request, who: Asker) -> Response:
    """Answer a conversation, as `/v1/chat/completions` does, in the words of the Responses protocol."""
    desk = desk_of(request)
    return await served(
        request,
        who,
        ask_of(body.read(), desk),
        live=False,  # the protocol has no word for text that is withdrawn
        whole=_whole,
        events=ResponseEvents if body.stream else None,
    )


def _whole(answer: Answer, voyage: Voyage) -> dict[str, Any]:
    cut = finish_reason(voyage) == "length"
    return {
        **_frame(voyage, answer.specialist or AUTO, "incomplete" if cut else "completed"),
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [_message(voyage, answer.text)],
        "usage": {
            "input_tokens": answer.usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.usage.total_tokens,
        },
        "pilothouse": answer.model_dump(mode="json"),
    }


def _frame(voyage: Voyage, model: str, status: str) -> dict[str, Any]:
    """A response before anything is said in it."""
    ask = voyage.ask
    return {
        "id": f"resp-{voyage.record_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "model": model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": ask.max_tokens,
        "metadata": {},
        "output": [],
        "parallel_tool_calls": False,
        "temperature": ask.temperature,
        "tool_choice": "none",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
    }


def _message(voyage: Voyage, text: str, status: str = "completed") -> dict[str, Any]:
    content = [_text(text)] if status == "completed" else []
    head = {"id": f"msg-{voyage.record_id}", "type": "message", "role": "assistant"}
    return {**head, "status": status, "content": content}


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


class ResponseEvents(EventStream):
    """The stream: created, one message that grows by deltas, completed. Each event has its number."""

    _number = -1

    async def _open(self, send: Send) -> None:
        voyage = self._stream.passage.voyage
        frame = _frame(voyage, self._model, "in_progress")
        await self._say_of(send, "response.created", response=frame)
        await self._say_of(send, "response.in_progress", response=frame)
        item = _message(voyage, "", "in_progress")
        await self._say_of(send, "response.output_item.added", output_index=0, item=item)
        await self._of_text(send, "response.content_part.added", part=_text(""))

    async def _item(self, send: Send, item: Item) -> None:
        if isinstance(item, str):
            await self._of_text(send, "response.output_text.delta", delta=item, logprobs=[])
        elif isinstance(item, Answer):
            await self._end(send, item)
        else:  # what is checked before it is sent is never withdrawn
            assert not isinstance(item, Restart)

    async def _end(self, send: Send, answer: Answer) -> None:
        voyage = self._stream.passage.voyage
        self._desk.answered(self._caller, answer)
        whole = _whole(answer, voyage)
        await self._of_text(send, "response.output_text.done", text=answer.text, logprobs=[])
        await self._of_text(send, "response.content_part.done", part=_text(answer.text))
        await self._say_of(send, "response.output_item.done", output_index=0, item=whole["output"][0])
        await self._say_of(send, f"response.{whole['status']}", response=whole)

    async def _failed(self, send: Send, refusal: Refusal) -> None:
        error = {"code": "server_error", "message": refusal.message}
        frame = _frame(self._stream.passage.voyage, self._model, "failed") | {"error": error}
        await self._say_of(send, "response.failed", response=frame)

    async def _done(self, send: Send) -> None:
        """The last event said so."""

    async def _of_text(self, send: Send, kind: str, **more: Any) -> None:
        place = {"item_id": f"msg-{self._stream.passage.voyage.record_id}", "output_index": 0}
        await self._say_of(send, kind, **place, content_index=0, **more)

    async def _say_of(self, send: Send, kind: str, **more: Any) -> None:
        self._number += 1
        body = {"type": kind, "sequence_number": self._number, **more}
        data = f"event: {kind}\ndata: {json_text(body)}\n\n".encode()
        await send({"type": "http.response.body", "body": data, "more_body": True})
