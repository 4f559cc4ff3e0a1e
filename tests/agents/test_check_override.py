"""What an override chose is not handed on: its steering would be lost on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pilothouse.agents.nodes.check import WRONG_SUM, next_best, told
from pilothouse.router.policy import Override, Policy
from pilothouse.store.records import Check, Part, Reading

POLICY = Policy(overrides=(Override(reading="harm", specialist="stories"),))


def routed(fired: bool) -> Part:
    reading = Reading(
        probe="harm", site="L0:last", score=0.0, probability=0.9 if fired else 0.1, threshold=0.5, fired=fired
    )
    decision, candidates = POLICY.decide({"stories": 0.6, "facts": 0.5}, (reading,))
    return Part(index=0, prompt="p", readings=(reading,), decision=decision, candidates=candidates)


@pytest.mark.parametrize(("fired", "expected"), [(True, None), (False, "facts")])
def test_only_an_ordinary_choice_is_handed_on(fired: bool, expected: str | None) -> None:
    ship = SimpleNamespace(policy=POLICY, limits=SimpleNamespace(hops=2), cards={})
    found = next_best(routed(fired), cast(Any, ship))
    assert (found.specialist if found else None) == expected


def test_a_row_quotes_no_text_but_the_user_is_told_what_is_wrong() -> None:
    part = Part(index=0, prompt="What is 12 + 30?", answer="Answer: 41")
    check = Check(verdict="escalate", reason=WRONG_SUM, score=0.0)
    assert "12" not in check.reason
    assert "12 + 30 is 42" in told(check, part)
