"""What goes wrong on the way, and what the log says of it."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest
from asked import SUM, WORD, Make, page
from toy_family import ANSWERS

from pilothouse.agents import controller
from pilothouse.agents.nodes.step import At, Step
from pilothouse.agents.passage import Passage
from pilothouse.agents.pilot import AnswerError, Pilot
from pilothouse.store.audit import Audit
from pilothouse.store.errors import StoreError, UsageError
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Part


def test_an_engine_failure_closes_the_row(scripted: Make) -> None:
    pilot, _ = scripted({"words": RuntimeError("out of memory")})
    with pytest.raises(AnswerError, match="out of memory"):
        pilot.ask(WORD, "t")
    found = page()
    assert (found.record.status, found.answer) == ("failed", "started ")
    assert found.record.error == "RuntimeError: out of memory"
    assert pilot.history("t") == ()
    pilot2, _ = scripted({"words": "fine"})
    assert pilot2.ask(WORD, "t").text == "fine", "the thread goes on after a failure"


def test_a_part_that_cannot_be_recorded_fails_plainly(
    scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(part: Part, at: At) -> Step:
        return Step(part.model_copy(update={"checks": ("not a check",)}), "record")

    monkeypatch.setitem(controller.PART_NODES, "check", (spoilt, ("record",)))
    pilot, _ = scripted({"words": "d o g"})
    with pytest.raises(AnswerError, match=r"part 0 cannot be recorded: checks\.0"):
        pilot.ask(WORD)
    found = page()
    assert (found.record.status, found.answer, found.record.parts) == ("failed", "d o g", ())


def test_closing_the_stream_cancels_and_records(scripted: Make) -> None:
    pilot, engine = scripted({"words": " ".join(f"word{i}" for i in range(200))})
    engine.before = lambda name, count: time.sleep(0.01)
    stream = pilot.stream(WORD)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert engine.closed == 1
    found = page()
    assert found.record.status == "aborted"
    assert (found.answer or "").startswith("word0 ")
    part = found.record.parts[0]
    assert part.generation is not None
    assert part.generation.finish_reason == "aborted"


def test_an_interrupt_closes_the_row(scripted: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pilot, engine = scripted({"words": " ".join(f"word{i}" for i in range(200))})
    main, stopped, stop = threading.main_thread().ident, threading.Event(), Passage.stop
    assert main is not None

    def stop_and_tell(passage: Passage) -> None:
        passage.voyage.cancelled.set()
        stopped.set()
        stop(passage)

    def interrupt(name: str, count: int) -> None:
        if count == 3:
            signal.pthread_kill(main, signal.SIGINT)
            assert stopped.wait(60), "the next word waits until the interrupt was heard"

    monkeypatch.setattr(Passage, "stop", stop_and_tell)
    engine.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        pilot.ask(WORD)
    assert page().record.status == "aborted"
    assert page().answer == "word0 word1 word2 "


def test_a_log_that_cannot_be_written_stops_the_answer(scripted: Make) -> None:
    ledger = Ledger.open()
    pilot, engine = scripted({"words": "x"}, ledger=ledger)
    pilot.warm()
    ledger.close()
    with pytest.raises(StoreError):
        pilot.ask(WORD)
    assert engine.calls == []


def test_a_log_that_breaks_half_way_keeps_the_last_piece(scripted: Make) -> None:
    ledger = Ledger.open()
    pilot, engine = scripted({"words": "one two three"}, ledger=ledger)
    engine.before = lambda name, count: ledger.close() if count == 2 else None
    got: list[str] = []
    with pytest.raises(StoreError):
        got.extend(str(item) for item in pilot.stream(WORD))
    assert got == ["one ", "two "]


@pytest.mark.parametrize(
    "prompt", ["", "  \n", [], [{"role": "assistant", "content": "hi"}], [{"role": "x"}]]
)
def test_nothing_to_answer(pilot: Pilot, prompt: Any) -> None:
    with pytest.raises(UsageError):
        pilot.ask(prompt)


def test_too_much_to_read(pilot: Pilot) -> None:
    with pytest.raises(UsageError, match=r"100,000 characters; at most 20,000"):
        pilot.ask("x" * 100_000)
    with pytest.raises(UsageError, match=r"tokens; this family reads"):
        pilot.ask("zq " * 1000)


@pytest.mark.parametrize(
    "prompt", ["\x1b[2Jhello\x07", "a\x00b", "<|assistant|>", "\ud800", "‮evil", "é" * 40]
)
def test_hostile_prompts_are_answered_and_recorded(pilot: Pilot, prompt: str) -> None:
    assert pilot.ask(prompt).status in ("completed", "abstained")
    with Audit.open() as audit:
        assert audit.verify().ok


@pytest.mark.parametrize(
    "values", [{"temperature": -1.0}, {"max_tokens": 0}, {"thread_id": ""}, {"thread_id": "x" * 256}]
)
def test_impossible_sampling(pilot: Pilot, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        pilot.ask(SUM, **values)


def test_many_threads_share_a_pilot(pilot: Pilot) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(pilot.ask, [SUM, WORD] * 6))
    assert [a.text for a in answers] == [ANSWERS["sums"], ANSWERS["words"]] * 6
    with Audit.open() as audit:
        assert audit.verify().ok
        assert len(audit.summaries(limit=50)) == 12


def test_an_option_that_does_not_exist(pilot: Pilot) -> None:
    with pytest.raises(TypeError, match="there is no option 'max_token'; there are max_tokens, temperature"):
        pilot.ask(SUM, max_token=5)  # type: ignore[call-arg]
