"""Probe: the scout reads the conversation once; everything later works on what it saw."""

from __future__ import annotations

import random
import time

from ...router.turns import turn_of
from ...store.records import Candidate, Decision, Generation, Message, Part, Timings
from ..voyage import Live, Turns, Voyage, milliseconds_since
from .step import At, Step


def probe(part: Part, at: At) -> Step:
    """Read the part, unless the plan did so already to judge a cut."""
    voyage = at.voyage
    if part.index not in voyage.live:
        asked = voyage.ask.turns[-1]
        read_ask(voyage, part.index, asked.content if part.prompt is None else part.prompt)
    live = voyage.live[part.index]
    seen = Generation(
        specialist=None,
        prompt_tokens=len(live.tokens),
        finish_reason="aborted",
        timings=Timings(probe_ms=live.probe_ms, prefill_ms=live.prefill_ms),
    )
    readings = live.reading.readings if live.reading is not None else ()
    return Step(part.model_copy(update={"readings": readings, "generation": seen}), "route")


def read_ask(voyage: Voyage, index: int, text: str) -> None:
    """Read an ask with its conversation, or alone where the conversation hides it, and keep what was seen.

    The conversation goes first ("yes" needs it). Only when the policy would then abstain is the line read by
    itself: a new subject may drown in the old one.
    """
    line = Message(role="user", content=text)
    first = voyage.live[index] = _read(voyage, (*voyage.history, line))
    if not voyage.history or voyage.ask.specialist is not None or would_answer(voyage, index):
        return
    alone = _read(voyage, (line,))
    alone.prefill_ms += first.prefill_ms
    alone.probe_ms += first.probe_ms
    voyage.live[index] = alone
    if not would_answer(voyage, index):
        first.prefill_ms, first.probe_ms = alone.prefill_ms, alone.probe_ms
        voyage.live[index] = first


def _read(voyage: Voyage, turns: Turns) -> Live:
    ship, begun = voyage.ship, time.perf_counter()
    tokens = ship.engine.encode_chat(turns)
    before = time.perf_counter()
    prefill = ship.engine.probe(tokens, ship.layers)
    prefill_ms = milliseconds_since(before)
    turn = turn_of(turns, tokens, ship.engine.encode_chat)
    reading = ship.scout.observe(turns, prefill.states, turn) if ship.scout is not None else None
    probe_ms = max(0.0, milliseconds_since(begun) - prefill_ms)
    return Live(turns, tokens, prefill, reading, prefill_ms, probe_ms, turn)


def would_answer(voyage: Voyage, index: int) -> bool:
    """Whether the policy would let somebody answer what was read for part `index`."""
    decision, _ = decided(voyage, voyage.live[index])
    return decision is None or not decision.abstained


def decided(voyage: Voyage, live: Live) -> tuple[Decision | None, tuple[Candidate, ...]]:
    """What the policy makes of a reading, and whom it likes best first; nothing where there are no probes."""
    reading, policy = live.reading, voyage.ship.policy
    if reading is None or policy is None:
        return None, ()
    return policy.decide(reading.p_correct, reading.readings, rng=random.Random(0))
