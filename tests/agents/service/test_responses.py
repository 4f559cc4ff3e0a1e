"""`/v1/responses`, asked by OpenAI's own client."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from running_service import Serve, Service
from toy_family import ANSWERS

SUM, WORD = "What is 3 + 4?", "Spell dog."


def test_a_whole_response(service: Service) -> None:
    raw = service.openai.responses.with_raw_response.create(model="auto", input=SUM)
    done = raw.parse()
    assert (done.output_text, done.model, done.status) == (ANSWERS["sums"], "sums", "completed")
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens > 10
    decision = done.model_extra["pilothouse"]  # type: ignore[index]
    assert raw.headers["x-pilothouse-record-id"] == decision["record_id"] == done.id.removeprefix("resp-")


def test_a_conversation_is_read_whole(service: Service) -> None:
    turns: list[Any] = [
        {"role": "user", "content": SUM},
        {"role": "assistant", "content": [{"type": "output_text", "text": ANSWERS["sums"]}]},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Spell "}, {"type": "input_text", "text": "dog."}],
        },
    ]
    done = service.openai.responses.create(model="words", input=turns, instructions="Be brief.")
    page = service.http.get(f"/v1/records/{done.id.removeprefix('resp-')}").json()
    assert [turn["content"] for turn in page["messages"]] == ["Be brief.", SUM, ANSWERS["sums"], WORD]
    assert done.model == "words"


def test_a_streamed_response(serve: Serve) -> None:
    service = serve(script={"words": "d o g it is"})
    events = list(service.openai.responses.create(model="words", input=WORD, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-1] == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last: Any = events[-1]
    assert text == last.response.output_text == "d o g it is"
    assert last.response.model_extra["pilothouse"]["specialist"] == "words"


def test_what_fails_on_the_way_is_said(serve: Serve) -> None:
    service = serve(script={"words": RuntimeError("out of memory")})
    with pytest.raises(openai.InternalServerError):
        service.openai.responses.create(model="words", input=WORD)


def test_an_answer_that_was_cut_is_incomplete(service: Service) -> None:
    done = service.openai.responses.create(model="words", input=WORD, max_output_tokens=2)
    assert (done.status, done.incomplete_details.reason) == ("incomplete", "max_output_tokens")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "web_search"}]},
        {"previous_response_id": "resp-1"},
        {"store": True},
        {"top_p": 0.5},
    ],
)
def test_what_is_not_done_here_is_refused_by_name(service: Service, more: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        service.openai.responses.create(model="auto", input=SUM, **more)
    assert refused.value.param == next(iter(more))
