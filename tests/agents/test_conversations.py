"""Threads: what is remembered, what comes back, what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from asked import LOST, SUM, WORD, Make, page
from toy_family import Tiny

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Unlogged
from pilothouse.store.errors import NotFoundError
from pilothouse.store.records import Message


def test_a_thread_remembers_and_survives_a_restart(tiny: Tiny, home: object) -> None:
    with Pilot(tiny.family, engine=tiny.engine) as pilot:
        first = pilot.ask(SUM)
    with Pilot(tiny.family, engine=tiny.engine) as pilot:
        pilot.ask(WORD, first.thread_id)
        turns = pilot.history(first.thread_id)
        assert [turn.role for turn in turns] == ["user", "assistant"] * 2
        assert turns[0].content == SUM
        assert [m.content for m in page().messages] == [SUM, first.text, WORD]
        assert pilot.undo(first.thread_id)[0].content == WORD
        assert len(pilot.history(first.thread_id)) == 2
        assert pilot.history("another") == ()


def test_a_conversation_comes_back_from_the_log(tiny: Tiny, home: Any) -> None:
    with Pilot(tiny.family, engine=tiny.engine) as pilot:
        first = pilot.ask(SUM)
    for path in (home / "data").glob("threads.db*"):
        path.unlink()
    with Pilot(tiny.family, engine=tiny.engine) as pilot:
        assert pilot.history(first.thread_id) == ()
        assert [t.content for t in pilot.resume(first.thread_id)] == [SUM, first.text]
        with pytest.raises(NotFoundError):
            pilot.resume("nobody")


def test_long_conversations_lose_their_oldest_turns(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "so it is and so it was " * 2 + "7"})
    thread = "long"
    for _ in range(8):
        pilot.ask(SUM, thread)
    assert max(map(len, engine.read)) < pilot.ship.context
    messages = page().messages
    assert messages[0].role == "user"
    assert 1 < len(messages) < 15
    assert len(pilot.history(thread)) == 16, "what is too long to read is still remembered"


def test_a_new_subject_is_read_alone_when_the_conversation_hides_it(scripted: Make) -> None:
    pilot, engine = scripted({"words": "d o g", "sums": "7"})
    pilot.remember("t", (Message(role="user", content=LOST), Message(role="assistant", content=LOST)))
    answer = pilot.ask(WORD, "t")
    alone = engine.encode_chat([Message(role="user", content=WORD)])
    assert answer.specialist == "words"
    assert (len(engine.read) == 1) or engine.read[1] == alone


def test_messages_replace_what_the_thread_remembers(scripted: Make) -> None:
    pilot, engine = scripted({"sums": "7"})
    pilot.ask(SUM, "t")
    pilot.ask([{"role": "user", "content": SUM}], "t")
    assert engine.read[0] == engine.read[1]


def test_nothing_is_kept_without_a_log(tiny: Tiny, home: Any) -> None:
    with Pilot(tiny.family, Unlogged(), tiny.engine) as pilot:
        first = pilot.ask(SUM)
        assert first.record_id is None
        pilot.ask(WORD, first.thread_id)
        assert len(pilot.history(first.thread_id)) == 4
    assert not home.exists()
