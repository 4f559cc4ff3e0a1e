"""Probe: the scout reads the conversation once; everything later works on what it saw."""

from __future__ import annotations

import random
import time

from ...store.records import Generation, Message, Part, Timings
from ..voyage import Live, Turns, Voyage, milliseconds_since
from .step import At, Step


def probe(part: Part, at: At) -> Step:
    """Read the part with its conversation; a follow-up that means nothing so is read alone as well.

    The conversation goes first ("yes" needs it). Only when the policy would then abstain is the line read by
    itself: a new subject may drown in the old one.
    """
    voyage = at.voyage
    begun = time.perf_counter()
    prefill_ms = 0.0
    if part.index not in voyage.live:
        asked = voyage.ask.turns[-1]
        line = asked if part.prompt == asked.content else Message(role="user", content=part.prompt or "")
        prefill_ms += probe_turns(voyage, part.index, (*voyage.history, line))
        if voyage.history and voyage.ask.specialist is None and not would_answer(voyage, part.index):
            with_history = voyage.live[part.index]
            prefill_ms += probe_turns(voyage, part.index, (line,))
            if not would_answer(voyage, part.index):
                voyage.live[part.index] = with_history
    live = voyage.live[part.index]
    timings = Timings(probe_ms=max(0.0, milliseconds_since(begun) - prefill_ms), prefill_ms=prefill_ms)
    seen = Generation(
        specialist=None, prompt_tokens=len(live.tokens), finish_reason="aborted", timings=timings
    )
    readings = live.reading.readings if live.reading is not None else ()
    return Step(part.model_copy(update={"readings": readings, "generation": seen}), "route")


def probe_turns(voyage: Voyage, index: int, turns: Turns) -> float:
    """Prefill the turns, read them, and keep both for part `index`; return the prefill's milliseconds."""
    ship = voyage.ship
    tokens = ship.engine.encode_chat(turns)
    begun = time.perf_counter()
    prefill = ship.engine.probe(tokens, ship.layers)
    spent = milliseconds_since(begun)
    reading = ship.scout.read(prefill.states) if ship.scout is not None else None
    voyage.live[index] = Live(turns, tokens, prefill, reading)
    return spent


def would_answer(voyage: Voyage, index: int) -> bool:
    """Whether the policy would let somebody answer what was read for part `index`."""
    reading, policy = voyage.live[index].reading, voyage.ship.policy
    if reading is None or policy is None:
        return True
    decision, _ = policy.decide(reading.p_correct, reading.readings, rng=random.Random(0))
    return not decision.abstained
