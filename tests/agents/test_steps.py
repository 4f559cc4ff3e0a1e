"""A part's steps in one super-step of the graph against one super-step each: the same answer and records."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_engine import ScriptedEngine
from toy_family import Tiny

from pilothouse.agents.answer import Piece
from pilothouse.agents.controller import build_graph
from pilothouse.agents.pilot import Pilot
from pilothouse.agents.voyage import Ask, Unlogged, Voyage
from pilothouse.router.policy import Policy
from pilothouse.store.records import Message, Part, Timings

SCRIPT = {"sums": "3+4=8 so 8", "words": "it is 7", "about": "hm"}
NO_TIME = {"timings": Timings(), "first_token_ms": None}


def walked(tiny: Tiny, prompt: str, stepwise: bool) -> tuple[list[Part], str, int]:
    """The parts without their clocks, the text that was shown, and how many super-steps that took."""
    engine = ScriptedEngine(tiny.engine, SCRIPT)
    with Pilot(tiny.family, Unlogged(), engine, Policy(lam=0.01, threshold=0.0)) as pilot:
        shown: list[Any] = []
        ask = Ask((Message(role="user", content=prompt),), "t")
        voyage = Voyage(pilot.ship, ask, shown.append, stepwise=stepwise, record_id="one")
        steps = list(build_graph(None).stream({}, context=voyage, stream_mode="debug"))
        last = max(step["step"] for step in steps)
    assert voyage.answer is not None
    parts = [timeless(voyage.parts[index]) for index in sorted(voyage.parts)]
    return parts, "".join(one.text for one in shown if isinstance(one, Piece) and one.part == 0), last


def timeless(part: Part) -> Part:
    hops = tuple(
        hop.model_copy(update={"generation": hop.generation and hop.generation.model_copy(update=NO_TIME)})
        for hop in part.hops
    )
    made = part.generation and part.generation.model_copy(update=NO_TIME)
    return part.model_copy(update={"hops": hops, "generation": made})


@pytest.mark.parametrize("prompt", ["What is 3 + 4?", "What is 3 + 4? And spell dog.", "Spell dog."])
def test_walking_on_changes_nothing_but_the_number_of_super_steps(tiny: Tiny, home: Any, prompt: str) -> None:
    parts, text, few = walked(tiny, prompt, stepwise=False)
    again, text_again, many = walked(tiny, prompt, stepwise=True)
    assert (parts, text) == (again, text_again)
    assert few == (3 if len(parts) > 1 else 1)  # plan, the parts, record; or all in plan, where nobody waits
    assert many >= 7
