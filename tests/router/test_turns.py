"""Where the last turn begins."""

from __future__ import annotations

import pytest

from pilothouse.router.turns import last_turn


@pytest.mark.parametrize(
    ("tokens", "alone", "begins"),
    [
        ((1, 5, 2, 1, 6, 2), (1, 6, 2), 3),
        ((1, 6, 2), (1, 6, 2), 0),
        ((9, 1, 5, 2, 1, 5, 2), (9, 1, 5, 2), 4),  # a start token opens the turn alone only
        ((1, 5, 2), (1, 5, 2, 7), 3),
        ((), (), 0),
    ],
)
def test_the_last_turn_begins_where_the_endings_part(
    tokens: tuple[int, ...], alone: tuple[int, ...], begins: int
) -> None:
    assert last_turn(tokens, alone) == begins
