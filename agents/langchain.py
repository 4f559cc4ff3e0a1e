"""A pilot as a LangChain chat model, and as a node of somebody else's LangGraph graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig

from ..store.errors import UsageError
from ..store.records import Message, Role
from .answer import Answer, Restart
from .async_pilot import AnswerStream
from .pilot import Pilot
from .voyage import Ask, Steer

ROLES: dict[str, Role] = {"system": "system", "human": "user", "user": "user", "ai": "assistant"}


class ChatPilot(BaseChatModel):
    """A pilot behind LangChain's interface; it is not closed here.

    `specialist` forces who answers. Streams give checked text only, since LangChain cannot take text back.
    Every message carries the decision in `response_metadata["pilothouse"]`, as `ask --json` prints it.
    """

    pilot: Any
    specialist: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    steer: Steer | None = None

    @property
    def _llm_type(self) -> str:
        return "pilothouse"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.specialist or "auto", "temperature": self.temperature, "seed": self.seed}

    def _ask(self, messages: Sequence[BaseMessage], stop: list[str] | None, more: dict[str, Any]) -> Ask:
        if stop:
            raise UsageError(f"stop texts {stop!r} are not supported; leave them out")
        unknown = more.keys() - {"specialist", "max_tokens", "temperature", "seed"}
        if unknown:
            raise UsageError(f"unknown parameter {min(unknown)!r}; leave it out")
        pilot = cast(Pilot, self.pilot)
        own = {"specialist": self.specialist, "max_tokens": self.max_tokens, "temperature": self.temperature}
        chosen = {**own, "seed": self.seed, **more}
        return pilot.asked(turns_of(messages), steer=self.steer, remember=False, **chosen)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        pilot, ask = cast(Pilot, self.pilot), self._ask(messages, stop, kwargs)
        items = pilot.run(ask, streaming=False, settled=True)
        return _result(next(item for item in items if isinstance(item, Answer)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async with AnswerStream(self.pilot, self._ask(messages, stop, kwargs), streaming=False) as items:
            return _result(await items.answer())

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        pilot, ask = cast(Pilot, self.pilot), self._ask(messages, stop, kwargs)
        items = pilot.run(ask, streaming=True, settled=True)
        with closing(items):  # type: ignore[type-var]
            for item in items:
                chunk = _chunk(item)
                if run_manager is not None and chunk.text:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with AnswerStream(self.pilot, self._ask(messages, stop, kwargs)) as items:
            async for item in items:
                chunk = _chunk(item)
                if run_manager is not None and chunk.text:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk


def pilot_node(
    pilot: Pilot, specialist: str | None = None, **more: Any
) -> Callable[[dict[str, Any], RunnableConfig], dict[str, Any]]:
    """Make a node for a LangGraph graph whose state has `messages`: it answers the last one.

    `more` are further parameters of `ChatPilot`. The graph streams the text (`stream_mode="messages"`)
    and keeps the conversation; the log has the record.
    """
    model = ChatPilot(pilot=pilot, specialist=specialist, **more)

    def node(state: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"], config)]}

    return node


def turns_of(messages: Sequence[BaseMessage]) -> list[Message]:
    """Read LangChain's messages. Raises UsageError for one that holds no plain text, or of another kind."""
    turns = []
    for message in messages:
        role = ROLES.get(message.type)
        if role is None:
            raise UsageError(f"a {message.type!r} message cannot be read; send system, human and ai messages")
        blocks = [message.content] if isinstance(message.content, str) else message.content
        if any(not isinstance(block, str) and block.get("type") != "text" for block in blocks):
            raise UsageError(f"a {message.type!r} message holds something other than text; send text only")
        turns.append(Message(role=role, content=str(message.text)))
    return turns


def _usage(answer: Answer) -> UsageMetadata:
    used = answer.usage
    return UsageMetadata(
        input_tokens=used.prompt_tokens, output_tokens=used.completion_tokens, total_tokens=used.total_tokens
    )


def _metadata(answer: Answer) -> dict[str, Any]:
    body = answer.model_dump(mode="json")
    return {"model_name": answer.specialist or "auto", "model_provider": "pilothouse", "pilothouse": body}


def _result(answer: Answer) -> ChatResult:
    message = AIMessage(
        answer.text,
        usage_metadata=_usage(answer),
        response_metadata=_metadata(answer),
        id=answer.record_id,
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def _chunk(item: str | Restart | Answer) -> ChatGenerationChunk:
    if isinstance(item, str):
        return ChatGenerationChunk(message=AIMessageChunk(content=item))
    assert isinstance(item, Answer), "settled streams withdraw nothing"
    last = AIMessageChunk(
        content="", usage_metadata=_usage(item), response_metadata=_metadata(item), chunk_position="last"
    )
    return ChatGenerationChunk(message=last)
