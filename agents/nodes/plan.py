"""Plan: open the record, and cut a prompt with several independent asks into parts."""

from __future__ import annotations

from collections.abc import Sequence

from ...store.errors import UsageError
from ...store.records import Part, Request
from ..asks import split
from ..voyage import Turns, Voyage
from .probe import read_ask, would_answer


def plan(voyage: Voyage, history: Turns) -> tuple[Part, ...]:
    """Open the record and return the parts, at least one.

    Cheap rules propose a cut; it stands only when the policy would answer every part by itself. What was
    probed for that is kept for the probe node. A prompt with one ask costs nothing here.

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
    asks = split(prompt) if ask.specialist is None and ship.scout is not None else (prompt,)
    if not 1 < len(asks) <= ship.limits.parts or not _each_would_be_answered(voyage, asks):
        asks = (prompt,)
        voyage.live.clear()
    parts = tuple(Part(index=index, prompt=text) for index, text in enumerate(asks))
    voyage.parts = {part.index: part for part in parts}
    return parts


def _each_would_be_answered(voyage: Voyage, asks: Sequence[str]) -> bool:
    for index, text in enumerate(asks):
        read_ask(voyage, index, text)
        if not would_answer(voyage, index):
            return False
    return True


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
