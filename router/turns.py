"""Where a conversation's last turn begins, whatever its chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..store.records import Message


def last_turn(tokens: Sequence[int], alone: Sequence[int]) -> int:
    """Return where a conversation's last turn begins: from there on, `tokens` end as `alone` does.

    alone: the last turn's tokens as a conversation of its own, in the same template.
    """
    shared = 0
    for one, other in zip(reversed(tokens), reversed(alone), strict=False):
        if one != other:
            break
        shared += 1
    return len(tokens) - shared


def turn_of(
    turns: Sequence[Message], tokens: Sequence[int], encode: Callable[[Sequence[Message]], Sequence[int]]
) -> int:
    """Return where the last of `turns` begins in their tokens, of which at least the last one belongs to it.

    encode: how a conversation becomes tokens; `tokens` may lack some of the oldest.
    """
    if len(turns) == 1:
        return 0
    return min(last_turn(tokens, encode(turns[-1:])), len(tokens) - 1)
