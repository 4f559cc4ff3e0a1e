"""Pieces come out in the order of the parts, the last one only when asked for."""

from __future__ import annotations

from pilothouse.agents.answer import Event, Piece, Restart, Settled
from pilothouse.agents.release import Release


def shown(events: list[Event], settled: bool = False) -> list[str | Restart]:
    release = Release(settled)
    out = [item for event in events for item in release.feed(event)]
    return [*out, release.last()]


def test_the_newest_piece_stays_behind() -> None:
    release = Release()
    assert release.feed(Piece(0, "a")) == []
    assert release.feed(Piece(0, "b")) == ["a"]
    assert release.feed(Settled(0)) == []
    assert release.last() == "b"
    assert release.last() == ""


def test_parts_come_in_order() -> None:
    events = [Piece(1, "x"), Piece(0, "a"), Settled(1), Piece(0, "b"), Settled(0)]
    assert "".join(map(str, shown(events))) == "ab\n\nx"


def test_what_was_shown_is_withdrawn() -> None:
    events = [Piece(0, "a"), Piece(0, "b"), Restart(0, "wrong"), Piece(0, "c"), Settled(0)]
    assert shown(events) == ["a", Restart(0, "wrong", "a"), "c"]


def test_what_was_not_shown_is_dropped_silently() -> None:
    events = [Piece(0, "a"), Restart(0, "wrong"), Piece(0, "c"), Settled(0)]
    assert shown(events) == ["c"]


def test_a_later_part_that_restarts_keeps_its_separator() -> None:
    events = [
        Piece(0, "a"),
        Settled(0),
        Piece(1, "x"),
        Piece(1, "y"),
        Restart(1, "bad"),
        Piece(1, "z"),
        Settled(1),
    ]
    assert shown(events) == ["a", "\n\nx", Restart(1, "bad", "\n\nx"), "\n\nz"]


def test_an_empty_part_needs_no_separator() -> None:
    assert "".join(map(str, shown([Settled(0), Piece(1, "x"), Settled(1)]))) == "x"


def test_settled_shows_only_checked_text() -> None:
    release = Release(settled=True)
    assert release.feed(Piece(0, "a")) == []
    assert release.feed(Piece(0, "b")) == []
    assert release.feed(Restart(0, "wrong")) == []
    assert release.feed(Piece(0, "c")) == []
    assert release.feed(Piece(1, "x")) == []
    assert release.feed(Piece(0, "d")) == []
    assert release.feed(Settled(0)) == ["c"]
    assert release.feed(Settled(1)) == ["d"]
    assert release.last() == "\n\nx"
