"""Deciding without answering, outcomes, and the pilot for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from scripted_engine import ScriptedEngine
from toy_family import ANSWERS, Tiny

from pilothouse.agents.answer import Answer
from pilothouse.agents.async_pilot import AsyncPilot
from pilothouse.agents.pilot import AnswerError, Pilot
from pilothouse.agents.voyage import Unlogged
from pilothouse.store.audit import Audit
from pilothouse.store.errors import NotFoundError, StoreMissingError, UsageError
from pilothouse.store.records import Page

SUM, WORD, LOST = "What is 3 + 4?", "Spell dog.", "zzq#@@xvjk#q%w"
LONG = " ".join(f"word{i}" for i in range(400))


def page(name: str = "last") -> Page:
    with Audit.open() as audit:
        return audit.page(name)


def run(work: Callable[[AsyncPilot], Any], pilot: Pilot) -> Any:
    async def inside() -> Any:
        return await work(AsyncPilot(pilot))

    return asyncio.run(inside())


# -- route and record ---------------------------------------------------------------------------------------


def test_a_course_is_what_the_answer_then_takes(pilot: Pilot) -> None:
    for prompt in (SUM, WORD, LOST):
        course, answer = pilot.route(prompt), pilot.ask(prompt)
        assert (course.specialist, course.abstained) == (answer.specialist, answer.abstained)
        assert course.p_correct == pytest.approx(answer.p_correct)
        assert [c["specialist"] for c in course.candidates] == [c["specialist"] for c in answer.candidates]
        assert course.decisions[0]["chosen"] == course.specialist


def test_a_course_leaves_nothing_behind(pilot: Pilot) -> None:
    pilot.ask(SUM, "t")
    before, known = page().record.id, pilot.history("t")
    pilot.route("And 5 + 6?", "t")
    assert page().record.id == before
    assert pilot.history("t") == known


def test_a_course_has_a_decision_per_part(pilot: Pilot) -> None:
    course = pilot.route(f"1. {SUM}\n2. {WORD}")
    assert [d["chosen"] for d in course.decisions] == ["sums", "words"]
    assert course.specialist == "sums+words"


def test_a_course_needs_a_known_specialist(pilot: Pilot) -> None:
    with pytest.raises(NotFoundError, match="did you mean sums"):
        pilot.route(SUM, specialist="sum")
    assert pilot.route(LOST, specialist="sums").decisions[0]["forced"] is True


def test_outcomes_are_added_to_the_record(pilot: Pilot) -> None:
    answer = pilot.ask(SUM)
    pilot.record(answer.record_id or "", "up", 1.0)
    pilot.record("last", "wrong", 0.0, source="verifier", note="3 + 4 is 7")
    assert [(o.source, o.verdict, o.score, o.note) for o in page().outcomes] == [
        ("user", "up", 1.0, ""),
        ("verifier", "wrong", 0.0, "3 + 4 is 7"),
    ]
    with pytest.raises(NotFoundError):
        pilot.record("0123456789abcdef", "up")
    with pytest.raises(UsageError, match="score"):
        pilot.record("last", "up", float("nan"))


def test_an_unlogged_pilot_takes_no_outcomes(tiny: Tiny, home: object) -> None:
    with Pilot(tiny.family, Unlogged(), tiny.engine) as pilot, pytest.raises(UsageError, match="nothing is"):
        pilot.record("last", "up")


def test_a_thread_can_be_left_as_it_is(pilot: Pilot) -> None:
    pilot.ask(SUM, "t")
    answer = pilot.ask([{"role": "user", "content": WORD}], "t", remember=False)
    assert len(pilot.history("t")) == 2
    assert page(answer.record_id or "").record.thread_id == "t"
    assert len(page(pilot.ask(WORD, "t", remember=False).record_id or "").messages) == 3
    assert len(pilot.history("t")) == 2


# -- asyncio ------------------------------------------------------------------------------------------------


def test_ask_stream_route_why_and_record(pilot: Pilot) -> None:
    async def work(ahead: AsyncPilot) -> None:
        answer = await ahead.ask(SUM)
        assert answer.text == ANSWERS["sums"]
        items = [item async for item in ahead.stream(WORD)]
        assert "".join(item for item in items if isinstance(item, str)) == ANSWERS["words"]
        assert isinstance(items[-1], Answer)
        assert (await ahead.route(SUM)).specialist == "sums"
        await ahead.record(answer.record_id or "", "up", 1.0)
        assert (await ahead.why(answer.record_id or "")).page.outcomes[0].verdict == "up"

    run(work, pilot)


def test_many_answers_at_once(pilot: Pilot) -> None:
    async def work(ahead: AsyncPilot) -> list[Answer]:
        return await asyncio.gather(*(ahead.ask(SUM if i % 2 else WORD) for i in range(12)))

    answers = run(work, pilot)
    assert {a.text for a in answers[::2]} == {ANSWERS["words"]}
    assert {a.text for a in answers[1::2]} == {ANSWERS["sums"]}
    assert len({a.record_id for a in answers}) == 12


@pytest.fixture
def slow(tiny: Tiny, pilot: Pilot) -> AsyncIterator[tuple[Pilot, ScriptedEngine]]:
    engine = ScriptedEngine(tiny.engine, {"words": LONG, "sums": RuntimeError("out of memory")})
    engine.before = lambda name, count: time.sleep(0.005)
    with Pilot(tiny.family, pilot.ship.log, engine) as slow:
        yield slow, engine  # type: ignore[misc]


def test_cancelling_the_task_stops_the_answer(slow: tuple[Pilot, ScriptedEngine]) -> None:
    async def work(ahead: AsyncPilot) -> None:
        task = asyncio.create_task(ahead.ask(WORD))
        while not slow[1].calls:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work, slow[0])
    assert slow[1].closed == 1
    assert page().record.status == "aborted"


def test_leaving_the_stream_stops_the_answer(slow: tuple[Pilot, ScriptedEngine]) -> None:
    async def work(ahead: AsyncPilot) -> None:
        async with ahead.stream(WORD) as items:
            async for item in items:
                assert item == "word0 "
                break
        assert items.passage.over
        assert [item async for item in items] == []

    run(work, slow[0])
    assert page().record.status == "aborted"


def test_what_fails_is_raised(slow: tuple[Pilot, ScriptedEngine]) -> None:
    async def work(ahead: AsyncPilot) -> None:
        with pytest.raises(AnswerError, match="out of memory"):
            await ahead.ask(SUM)
        with pytest.raises(NotFoundError, match="did you mean"):
            await ahead.ask(SUM, specialist="sum")
        with pytest.raises(UsageError):
            ahead.stream("")

    run(work, slow[0])
    assert page().record.status == "failed"


def test_closing_closes_the_pilot(tiny: Tiny, home: Any) -> None:
    async def work() -> Pilot:
        async with AsyncPilot(Pilot(tiny.family, engine=tiny.engine)) as ahead:
            await ahead.ask(SUM)
            return ahead.pilot

    assert not asyncio.run(work()).is_open
    home.joinpath("data/log.db").unlink()
    with pytest.raises(StoreMissingError):
        page()
