"""`/v1/chat/completions` and `/v1/models`, asked by OpenAI's own client."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import openai
import pytest
from running_service import Serve, Service
from toy_family import ANSWERS, Tiny

from pilothouse.agents.pilot import Pilot
from pilothouse.router.policy import Policy
from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Page

SUM, WORD, LOST = "What is 3 + 4?", "Spell dog.", "zzq#@@xvjk#q%w"
LONG = " ".join(f"word{i}" for i in range(400))


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def page(name: str = "last") -> Page:
    with Audit.open() as audit:
        return audit.page(name)


def wait_for(status: str) -> Page:
    for _ in range(400):
        if page().record.status == status:
            return page()
        time.sleep(0.01)
    raise AssertionError(f"the record is {page().record.status}")


# -- answers ------------------------------------------------------------------------------------------------


def test_a_whole_answer(service: Service) -> None:
    raw = service.openai.chat.completions.with_raw_response.create(model="auto", messages=said(SUM))
    done = raw.parse()
    assert done.choices[0].message.content == ANSWERS["sums"]
    assert (done.choices[0].finish_reason, done.model, done.object) == ("stop", "sums", "chat.completion")
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 10
    decision = done.model_extra["pilothouse"]  # type: ignore[index]
    assert decision["specialist"] == "sums"
    assert {c["specialist"] for c in decision["candidates"]} == {"sums", "words", "about"}
    assert raw.headers["x-pilothouse-record-id"] == decision["record_id"] == page().record.id
    assert raw.headers["x-pilothouse-specialist"] == "sums"
    assert float(raw.headers["x-pilothouse-confidence"]) == pytest.approx(decision["p_correct"], abs=1e-4)
    assert page().record.status == "completed"


def test_a_streamed_answer(service: Service) -> None:
    options: Any = {"include_usage": True}
    raw = service.openai.chat.completions.with_raw_response.create(
        model="auto", messages=said(WORD), stream=True, stream_options=options
    )
    assert raw.headers["x-pilothouse-specialist"] == "words"
    chunks = list(raw.parse())
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ANSWERS["words"]
    ends = [c for c in chunks if c.choices and c.choices[0].finish_reason]
    assert [c.choices[0].finish_reason for c in ends] == ["stop"]
    decision = ends[0].model_extra["pilothouse"]  # type: ignore[index]
    assert decision["text"] == text
    assert decision["record_id"] == raw.headers["x-pilothouse-record-id"] == page().record.id
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == page().record.parts[0].generation.completion_tokens  # type: ignore[union-attr]
    assert {c.model for c in chunks} == {"words"}


def test_the_stream_ends_with_done(service: Service) -> None:
    body = {"model": "auto", "messages": said(SUM), "stream": True}
    lines = service.http.post("/v1/chat/completions", json=body).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    parsed = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert all(one["choices"] for one in parsed), "no usage was asked for"
    assert parsed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_a_specialist_can_be_asked_for(service: Service) -> None:
    done = service.openai.chat.completions.create(model="words", messages=said(SUM))
    assert done.model == "words"
    assert page().record.request.forced_specialist == "words"


def test_an_abstention_is_an_answer(service: Service) -> None:
    raw = service.openai.chat.completions.with_raw_response.create(model="auto", messages=said(LOST))
    done = raw.parse()
    assert "I would rather not answer" in (done.choices[0].message.content or "")
    assert done.model_extra["pilothouse"]["abstained"] is True  # type: ignore[index]
    assert "x-pilothouse-specialist" not in raw.headers
    assert done.model == "auto"


def test_the_conversation_is_the_clients(service: Service) -> None:
    turns: Any = [
        {"role": "developer", "content": "Be brief."},
        *said(SUM),
        {"role": "assistant", "content": "7"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 2?"}],
        },
    ]
    done = service.openai.chat.completions.create(
        model="auto", messages=turns, extra_body={"pilothouse": {"thread_id": "mine"}}
    )
    found = page()
    assert [m.role for m in found.messages] == ["system", "user", "assistant", "user"]
    assert (found.prompt, found.record.thread_id) == ("What is 1 + 2?", "mine")
    assert service.desk.pilot.history("mine") == (), "the client remembers; the service need not"
    assert done.choices[0].message.content


def test_length_is_told(service: Service) -> None:
    done = service.openai.chat.completions.create(model="sums", messages=said(SUM), max_completion_tokens=2)
    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None
    assert done.usage.completion_tokens == 2


def test_steering_is_honoured_and_logged(service: Service) -> None:
    more = {"pilothouse": {"steer": {"extra": {"push": 2.0}}}}
    service.openai.chat.completions.create(model="sums", messages=said(SUM), extra_body=more)
    assert [(e.name, e.coefficient) for e in page().record.parts[0].steering.entries] == [("push", 2.0)]
    more = {"pilothouse": {"steer": {"extra": {"pull": 2.0}}}}
    with pytest.raises(openai.BadRequestError, match=r"no steering vector 'pull'; this family has push"):
        service.openai.chat.completions.create(model="sums", messages=said(SUM), extra_body=more)


def test_a_user_is_the_person_that_the_log_can_forget(service: Service) -> None:
    service.openai.chat.completions.create(model="auto", messages=said(SUM), user="ann@example.org")
    assert isinstance(service.desk.pilot.ship.log, Ledger)
    assert len(service.desk.pilot.ship.log.forget(person="ann@example.org").records) == 1
    assert page().prompt is None


def test_neutral_parameters_are_taken(service: Service) -> None:
    done = service.openai.chat.completions.create(
        model="auto", messages=said(SUM), n=1, top_p=1.0, presence_penalty=0, logprobs=False, seed=3,
        temperature=0.5, tools=[], response_format={"type": "text"}, stop=None,
    )  # fmt: skip
    assert page().record.request.seed == 3
    assert done.choices


# -- models -------------------------------------------------------------------------------------------------


def test_models_are_auto_and_the_specialists(service: Service) -> None:
    assert [m.id for m in service.openai.models.list()] == ["auto", "sums", "words", "about"]
    assert service.openai.models.retrieve("sums").model_extra["pilothouse"]["title"] == "The sums"  # type: ignore[index]
    with pytest.raises(openai.NotFoundError):
        service.openai.models.retrieve("nobody")


# -- refusals -----------------------------------------------------------------------------------------------


WRONG: list[tuple[dict[str, Any], str | None, str]] = [
    ({"n": 2}, "n", "unsupported_parameter"),
    ({"n": True}, "n", "unsupported_parameter"),
    ({"top_p": 0.5}, "top_p", "unsupported_parameter"),
    ({"stop": ["x"]}, "stop", "unsupported_parameter"),
    ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"colour": "red"}, "colour", "unknown_parameter"),
    ({"pilothouse": {"colour": "red"}}, "pilothouse.colour", "unknown_parameter"),
    ({"temperature": "hot"}, "temperature", "invalid_value"),
    ({"temperature": -1}, "temperature", "invalid_value"),
    ({"seed": 2**63}, "seed", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": 100_000}, "max_tokens", "invalid_value"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": said(SUM) * 300}, "messages", "too_many_messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "invalid_value"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", "missing_parameter"),
    ({"messages": said(" ")}, None, "invalid_value"),
    ({"messages": said("zq " * 1000)}, None, "invalid_value"),
    ({"model": None}, "model", "invalid_value"),
]


def test_what_cannot_be_done_is_refused_by_name(service: Service) -> None:
    for sent, param, code in WRONG:
        body = {"model": "auto", "messages": said(SUM), **sent}
        with pytest.raises(openai.BadRequestError) as refused:
            service.openai.post("/chat/completions", body=body, cast_to=object)
        assert (refused.value.param, refused.value.code) == (param, code), sent
    assert service.desk.gate.inside == 0


def test_an_unknown_model_is_not_found(service: Service) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'; ask for auto or one of sums") as refused:
        service.openai.chat.completions.create(model="gpt", messages=said(SUM))
    assert (refused.value.param, refused.value.code) == ("model", "model_not_found")


# -- streams that do not go well ----------------------------------------------------------------------------


def test_a_failure_before_the_first_piece_has_its_status(serve: Serve, tiny: Tiny) -> None:
    service = serve(script={"words": RuntimeError("out of memory in /secret/place")})
    with pytest.raises(openai.InternalServerError) as failed:
        service.openai.chat.completions.create(model="words", messages=said(WORD), stream=True)
    assert "secret" not in str(failed.value)
    assert page().record.status == "failed"
    assert "/secret/place" in (page().record.error or ""), "the operator sees it"


def test_a_failure_on_the_way_is_said_in_the_stream(serve: Serve) -> None:
    service = serve(script={"words": LONG}, live=True)
    engine: Any = service.desk.pilot.ship.engine

    def fail(name: str, count: int) -> None:
        if count == 5:
            raise RuntimeError("out of memory")

    engine.before = fail
    stream = service.openai.chat.completions.create(model="words", messages=said(WORD), stream=True)
    with pytest.raises(openai.APIError, match="answering failed"):
        list(stream)
    until = time.monotonic() + 5
    while service.desk.gate.inside and time.monotonic() < until:
        time.sleep(0.01)  # the place is given back just after the last byte
    assert service.desk.gate.inside == 0


def test_a_withdrawn_text_is_never_in_a_checked_stream(serve: Serve, tiny: Tiny) -> None:
    script = {"sums": "3 + 4 = 8", "words": "3 + 4 = 7"}
    policy = Policy(lam=0.0, threshold=0.0)
    for live in (False, True):
        service = serve(pilot_of(tiny, script, policy), live=live)
        chunks = list(service.openai.chat.completions.create(model="auto", messages=said(SUM), stream=True))
        withdrawn = [c.model_extra["pilothouse"]["withdrawn"] for c in chunks if not c.choices]  # type: ignore[index]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        if live:
            assert [w["text"].strip() for w in withdrawn] == ["3 + 4 ="]
        else:
            assert (text, withdrawn) == ("3 + 4 = 7", [])


def pilot_of(tiny: Tiny, script: dict[str, Any], policy: Policy) -> Pilot:
    from scripted_engine import ScriptedEngine

    return Pilot(tiny.family, engine=ScriptedEngine(tiny.engine, script), policy=policy)


def test_a_log_that_cannot_be_written_is_said_plainly(serve: Serve, tiny: Tiny) -> None:
    with Ledger.open() as ledger, Pilot(tiny.family, ledger, tiny.engine) as pilot:
        service = serve(pilot)
        ledger.close()
        with pytest.raises(openai.InternalServerError) as failed:
            service.openai.chat.completions.create(model="auto", messages=said(SUM))
        assert failed.value.status_code == 503
        assert (failed.value.code, "log.db" in str(failed.value)) == ("log_unavailable", False)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_its_answer(serve: Serve, stream: bool) -> None:
    service = serve(script={"words": LONG}, live=True)
    body = json.dumps({"model": "words", "messages": said(WORD), "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        if stream:
            assert b"200 OK" in client.recv(200)
        else:
            while not service.desk.gate.inside:
                time.sleep(0.01)
            time.sleep(0.1)
    found = wait_for("aborted")
    assert len(found.answer or "") < len(LONG)
    for _ in range(200):
        if service.desk.gate.inside == 0:
            break
        time.sleep(0.01)
    assert service.desk.gate.inside == 0
    assert b"pilothouse_departures_total 1.0" in service.http.get("/metrics").content
