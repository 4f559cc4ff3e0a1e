"""Plan: open the record, and cut a prompt with several independent asks into parts."""

from __future__ import annotations

from ...store.errors import UsageError
from ...store.records import Part, Request
from ..voyage import Turns, Voyage
from .cut import cut


def plan(voyage: Voyage, history: Turns) -> tuple[Part, ...]:
    """Open the record and return the parts, at least one.

    What was probed to judge a cut is kept for the probe node. A prompt of one sentence costs nothing here.

    Raises UsageError when the prompt does not fit the trunk.
    """
    ask, ship = voyage.ask, voyage.ship
    voyage.conversation = (*history, *ask.turns)
    turns = fitting(voyage, voyage.conversation)
    voyage.history = turns[:-1]
    voyage.request = Request(
        thread_id=ask.thread_id,
        messages=turns,
        forced_specialist=ask.specialist,
        max_tokens=ask.max_tokens,
        temperature=ask.temperature,
        seed=ask.seed,
        person=ask.person,
    )
    voyage.opened = ship.log.begin_soon(voyage.request, record_id=voyage.record_id, parent_id=ask.parent_id)
    prompt = turns[-1].content
    asks = cut(voyage, prompt) if ask.specialist is None else (prompt,)
    parts = tuple(Part(index=index, prompt=text) for index, text in enumerate(asks))
    voyage.parts = {part.index: part for part in parts}
    return parts


def fitting(voyage: Voyage, turns: Turns) -> Turns:
    """Return the newest turns that the trunk can read with room for an answer: whole turns go, oldest first.

    A system turn at the front stays. Raises UsageError when the prompt alone is too long.
    """
    ship = voyage.ship
    room = max(1, ship.context - min(voyage.ask.max_tokens, ship.context // 4))
    head = turns[:1] if turns[0].role == "system" and len(turns) > 1 else ()
    rest = turns[len(head) :]
    # a token holds at least one character of a byte-level vocabulary, so short conversations need no counting
    if sum(len(turn.content.encode("utf-8", "replace")) + 8 for turn in turns) <= room:
        return turns
    while (count := len(ship.engine.encode_chat((*head, *rest)))) > room:
        if len(rest) == 1:
            raise UsageError(
                f"the prompt has {count} tokens; this family reads {room} before an answer; shorten it"
            )
        rest = rest[next((at for at in range(1, len(rest)) if rest[at].role == "user"), len(rest) - 1) :]
    return (*head, *rest)
