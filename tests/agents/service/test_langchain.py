"""The pilot behind LangChain's interface, and as a node of another graph."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from toy_family import ANSWERS

from pilothouse.agents.langchain import ChatPilot, pilot_node
from pilothouse.agents.pilot import Pilot
from pilothouse.store.audit import Audit
from pilothouse.store.errors import UsageError

SUM, WORD = "What is 3 + 4?", "Spell dog."


def test_invoke_carries_the_decision(pilot: Pilot) -> None:
    message = ChatPilot(pilot=pilot).invoke([SystemMessage("Be brief."), HumanMessage(SUM)])
    assert message.content == ANSWERS["sums"]
    decision = message.response_metadata["pilothouse"]
    assert (decision["specialist"], decision["record_id"]) == ("sums", message.id)
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == decision["usage"]["completion_tokens"]
    with Audit.open() as audit:
        assert [m.role for m in audit.page(str(message.id)).messages] == ["system", "user"]


def test_stream_and_async_say_the_same(pilot: Pilot) -> None:
    model = ChatPilot(pilot=pilot)

    async def pieces() -> list[Any]:
        return [chunk async for chunk in model.astream(WORD)]

    for chunks in (list(model.stream(WORD)), asyncio.run(pieces())):
        assert "".join(str(chunk.content) for chunk in chunks) == ANSWERS["words"]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        assert whole.response_metadata["pilothouse"]["specialist"] == "words"
        assert whole.usage_metadata["total_tokens"] > 5
    assert asyncio.run(model.ainvoke(SUM)).content == ANSWERS["sums"]


def test_parameters_are_honoured_or_refused(pilot: Pilot) -> None:
    model = ChatPilot(pilot=pilot, specialist="words", max_tokens=2)
    message = model.invoke(SUM)
    assert message.response_metadata["model_name"] == "words"
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 2
    assert model.invoke(SUM, specialist="sums", max_tokens=3).response_metadata["model_name"] == "sums"
    for more in ({"stop": ["x"]}, {"top_k": 3}):
        with pytest.raises(UsageError):
            model.invoke(SUM, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [ToolMessage("x", tool_call_id="1"), HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}])],
)
def test_what_cannot_be_read_is_refused(pilot: Pilot, message: BaseMessage) -> None:
    with pytest.raises(UsageError, match="send"):
        ChatPilot(pilot=pilot).invoke([message])


def test_a_node_of_another_graph(pilot: Pilot) -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("pilot", pilot_node(pilot))  # type: ignore[type-var]
    graph.add_edge(START, "pilot")
    graph.add_edge("pilot", END)
    app = graph.compile()
    start: Any = {"messages": [HumanMessage(SUM)]}
    messages = app.invoke(start)["messages"]
    assert [type(m) for m in messages] == [HumanMessage, AIMessage]
    assert messages[-1].content == ANSWERS["sums"]
    streamed = [part[0] for part in app.stream(start, stream_mode="messages")]  # type: ignore[index]
    assert "".join(str(m.content) for m in streamed) == ANSWERS["sums"]
    assert len(streamed) > 1, "the text comes as it is checked, then the decision"
