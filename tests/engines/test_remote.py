"""The remote engine against a local endpoint that answers, refuses, stalls, breaks off and talks nonsense."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from fake_endpoint import DONE, GOOD, Endpoint, chunk

from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists.card import Card, Remote
from pilothouse.specialists.engines.base import NotOffered, RequestFailed, Sampling
from pilothouse.specialists.engines.breaker import Breaker, Unavailable
from pilothouse.specialists.engines.remote import RemoteEngine
from pilothouse.specialists.engines.sse import LONGEST, Broken, lines, payloads
from pilothouse.store.errors import ArtifactError, UsageError
from pilothouse.store.records import Message

ASK = (Message(role="system", content="Be short."), Message(role="user", content="What is 12 + 30?"))


def card(url: str, **settings: Any) -> Card:
    remote = Remote(url=url, model="far", **{"patience": 5.0, "attempts": 3} | settings)
    return Card(name="away", kind="remote", title="Away", description="Elsewhere.", remote=remote)


class Stage:
    """An endpoint, an engine over it, and the pauses that the engine made."""

    def __init__(self, *script: Any, **settings: Any) -> None:
        self.endpoint, self.pauses = Endpoint(*script), list[float]()
        family = cast(Any, SimpleNamespace(cards={"away": card(self.endpoint.url, **settings)}))
        self.engine = RemoteEngine(family, self.pauses.append, random.Random(1))

    def ask(self) -> str:
        return "".join(event.text for event in self.engine.generate(ASK, "away", Sampling(max_tokens=9)))

    @property
    def asked(self) -> int:
        return len(self.endpoint.bodies)


@pytest.fixture
def stage() -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(*script: Any, **settings: Any) -> Stage:
        made.append(Stage(*script, **settings))
        return made[-1]

    yield make
    for one in made:
        one.engine.close()
        one.endpoint.close()


def test_an_answer_streams_token_by_token(stage: Callable[..., Stage]) -> None:
    here = stage(GOOD)
    sampling = Sampling(0.5, 9, 7, ("\n",), top_p=0.9)
    events = list(here.engine.generate(ASK, "away", sampling))
    assert [event.text for event in events] == ["The ", "sum", " is", " 42."]
    assert [event.logprob for event in events] == [-0.25, -0.5, -0.75, -0.5]
    assert [event.finish_reason for event in events] == [None, None, None, "stop"]
    assert here.endpoint.bodies == [
        {
            "path": "/v1/chat/completions",
            "model": "far",
            "messages": [one.model_dump() for one in ASK],
            "max_tokens": 9,
            "temperature": 0.5,
            "seed": 7,
            "top_p": 0.9,
            "stop": ["\n"],
            "stream": True,
            "logprobs": True,
        }
    ]
    assert here.endpoint.keys == [None]


def test_an_endpoint_without_log_probabilities_gives_text(stage: Callable[..., Stage]) -> None:
    here = stage((chunk("4"), chunk("2"), chunk(finish="length"), DONE), logprobs=False)
    events = list(here.engine.generate(ASK, "away", Sampling()))
    assert [event.text for event in events] == ["4", "2"]
    assert all(math.isnan(event.logprob) for event in events)
    assert events[-1].finish_reason == "length"
    assert here.endpoint.bodies[0]["logprobs"] is False


PASSING: dict[str, Any] = {
    "429": 429,
    "500": 500,
    "503": 503,
    "cut at once": ("cut",),
    "no JSON": (b"data: {nonsense\n\n",),
    "an error in the stream": (b'data: {"error": {"message": "overloaded"}}\n\n',),
    "a chunk of another shape": (b'data: {"choices": [7]}\n\n',),
    "content that is no text": (b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',),
    "logprobs of another shape": (chunk("a", logprobs={"content": [{"token": "a"}]}),),
    "a list": (b"data: [1]\n\n",),
    "silent": (1.0, *GOOD),
    "an end without a reason": (DONE,),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(stage: Callable[..., Stage], fault: str) -> None:
    here = stage(PASSING[fault], PASSING[fault], GOOD, patience=0.3)
    assert here.ask() == "The sum is 42."
    assert here.asked == 3
    first, second = here.pauses
    if fault == "429":
        assert (first, second) == (3.0, 3.0)  # as Retry-After asks
    else:
        assert 0 <= first <= 0.25
        assert 0 <= second <= 0.5
        assert first != second


@pytest.mark.parametrize("fault", PASSING)
def test_attempts_end(stage: Callable[..., Stage], fault: str) -> None:
    here = stage(PASSING[fault], patience=0.3)
    with pytest.raises(Unavailable, match=r"'away' at http://127.*3 attempts, the last time: ") as caught:
        here.ask()
    assert here.asked == 3
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_what_will_not_pass_is_said_at_once(stage: Callable[..., Stage], status: int) -> None:
    here = stage(status)
    with pytest.raises(RequestFailed, match=str(status)):
        here.ask()
    assert here.asked == 1
    assert not here.engine.breaker("away").open


@pytest.mark.parametrize("end", [("cut",), (b"data: {nonsense\n\n",), (1.0,), ()])
def test_a_broken_answer_is_never_begun_again(stage: Callable[..., Stage], end: tuple[Any, ...]) -> None:
    here = stage((*GOOD[:4], *end), patience=0.3)
    got = []
    with pytest.raises(RequestFailed, match="broke off"):
        got.extend(event.text for event in here.engine.generate(ASK, "away", Sampling()))
    assert here.asked == 1


def test_a_drip_ends_at_the_timeout(stage: Callable[..., Stage]) -> None:
    drip = [piece for _ in range(60) for piece in (0.1, chunk("x"))]
    here = stage(tuple(drip), timeout=2.0)
    with pytest.raises(RequestFailed, match="ran out"):
        here.ask()


def test_other_reasons_to_end_are_named(stage: Callable[..., Stage]) -> None:
    here = stage((chunk("a"), chunk(finish="content_filter"), DONE))
    with pytest.raises(RequestFailed, match="content_filter"):
        here.ask()


def test_nobody_there(stage: Callable[..., Stage]) -> None:
    here = stage(GOOD)
    here.endpoint.close()
    with pytest.raises(Unavailable, match="3 attempts"):
        here.ask()


def test_closing_the_iterator_ends_the_connection(stage: Callable[..., Stage]) -> None:
    here = stage(GOOD)
    events = here.engine.generate(ASK, "away", Sampling())
    assert next(events).text == "The "
    cast(Any, events).close()
    assert list(events) == []
    assert here.ask() == "The sum is 42."


def test_the_breaker_opens_for_all_and_closes_after_a_success(stage: Callable[..., Stage]) -> None:
    here = stage(*[500] * 6, GOOD)
    breaker = here.engine.breaker("away")
    moment = 100.0
    breaker._clock = lambda: moment
    with pytest.raises(Unavailable, match="attempts"):
        here.ask()
    with pytest.raises(Unavailable, match="5 times in a row and is not asked for 30 s"):
        here.ask()
    asked = here.asked
    assert asked == 5
    with pytest.raises(Unavailable, match="in a row"):
        here.ask()
    assert here.asked == asked, "an open breaker asks nobody"
    moment += 31
    with pytest.raises(Unavailable, match="in a row"):
        here.ask()
    assert here.asked == 6, "one tries, and its failure opens the breaker again"
    moment += 31
    assert here.ask() == "The sum is 42."
    assert not breaker.open


def test_half_open_lets_one_through() -> None:
    moment = 0.0
    breaker = Breaker("there", failures=2, rest=10, clock=lambda: moment)
    breaker.enter()
    breaker.failed()
    breaker.enter()
    breaker.failed()
    moment = 10.0
    breaker.enter()
    with pytest.raises(Unavailable):
        breaker.enter()
    breaker.succeeded()
    breaker.enter()


def test_steering_and_taps_are_refused_openly(stage: Callable[..., Stage]) -> None:
    here = stage(GOOD)
    vector = SteeringVector("push", "add", 0, 1.0, "both", torch.ones(4))
    with pytest.raises(NotOffered, match="push cannot reach"):
        here.engine.generate(ASK, "away", Sampling(), [vector])
    with pytest.raises(NotOffered, match="layer 3 cannot reach"):
        here.engine.generate(ASK, "away", Sampling(), taps=[3])
    with pytest.raises(NotOffered, match="top_k"):
        here.engine.generate(ASK, "away", Sampling(1.0, top_k=5))
    assert here.asked == 0


def test_the_key_comes_from_the_environment_alone(
    stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = stage(401, GOOD, key_from="TEST_AWAY_KEY")
    monkeypatch.delenv("TEST_AWAY_KEY", raising=False)
    for bad in ("", "a\nb"):
        monkeypatch.setenv("TEST_AWAY_KEY", bad)
        with pytest.raises(UsageError, match="TEST_AWAY_KEY"):
            here.ask()
    monkeypatch.setenv("TEST_AWAY_KEY", "s3cret")
    with pytest.raises(RequestFailed, match="key in TEST_AWAY_KEY") as caught:
        here.ask()
    assert "s3cret" not in str(caught.value)
    assert here.ask() == "The sum is 42."
    assert here.endpoint.keys == ["Bearer s3cret"] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"url": "ftp://x/v1"},
        {"url": "http://user:pass@x/v1"},
        {"url": "http://elsewhere.example/v1", "key_from": "KEY"},
        {"key_from": "sk-1234"},
        {"attempts": 0},
        {"key": "sk-1234"},
    ],
)
def test_cards_refuse_what_is_wrong_or_unsafe(tmp_path: Path, change: dict[str, Any]) -> None:
    good = card("http://127.0.0.1:1/v1")
    good.save(tmp_path / "away")
    assert Card.load(tmp_path / "away") == good
    assert good.remote is not None
    wrong = good.model_copy(update={"remote": None}).model_dump(exclude_none=True)
    wrong["remote"] = good.remote.model_dump(exclude_none=True) | change
    from pilothouse.specialists.toml import dumps

    (tmp_path / "away" / "card.toml").write_text(dumps(wrong))
    with pytest.raises(ArtifactError, match="remote"):
        Card.load(tmp_path / "away")


@pytest.mark.parametrize("kind", ["remote", "adapter"])
def test_remote_cards_and_only_they_have_an_endpoint(tmp_path: Path, kind: str) -> None:
    given = card("http://127.0.0.1:1/v1").model_dump(exclude_none=True) | {"kind": kind}
    if kind == "remote":
        del given["remote"]
    from pilothouse.specialists.toml import dumps

    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "card.toml").write_text(dumps(given))
    with pytest.raises(ArtifactError, match="exactly those"):
        Card.load(tmp_path / "away")


def test_events_are_read_across_any_cuts() -> None:
    whole = b"".join(GOOD)
    expected = list(payloads([whole]))
    assert len(expected) == 6
    for size in (1, 2, 7, 64):
        assert list(payloads(whole[at : at + size] for at in range(0, len(whole), size))) == expected
    assert list(lines([b"a\r\nb"])) == [b"a", b"b"]
    with pytest.raises(Broken, match="longer"):
        list(lines([b"x" * 4096] * (LONGEST // 4096 + 1)))
