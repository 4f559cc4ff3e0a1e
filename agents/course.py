"""Decide without answering: who would answer a prompt, and why."""

from __future__ import annotations

from dataclasses import replace

from ..store.records import Frozen, Part, Timings
from .answer import Entry, entries, heading
from .nodes.explain import explained
from .nodes.plan import plan
from .nodes.probe import probe
from .nodes.record import total
from .nodes.route import route
from .nodes.step import At
from .voyage import Ask, Ship, Turns, Unlogged, Voyage


class Course(Frozen):
    """Who would answer. `decisions` has one entry per part; the other lists are those of an `Answer`.

    Nothing was generated and nothing is logged. With exploration in the policy, the answer itself may draw
    another specialist: `propensity` says how likely the drawn one was.
    """

    specialist: str | None
    p_correct: float | None
    abstained: bool
    decisions: tuple[Entry, ...]
    candidates: tuple[Entry, ...] = ()
    readings: tuple[Entry, ...] = ()
    features: tuple[Entry, ...] = ()
    timings: Timings = Timings()


def course_of(ship: Ship, ask: Ask, history: Turns) -> Course:
    """Plan, probe and route, and stop there.

    Raises UsageError for a prompt that does not fit the trunk.
    """
    voyage = Voyage(replace(ship, log=Unlogged()), ask)
    at = At(voyage, lambda event: None)
    parts = [explained(voyage, _routed(part, at)) for part in plan(voyage, history)]
    specialist, p_correct = heading(parts)
    return Course(
        specialist=specialist,
        p_correct=p_correct,
        abstained=specialist is None,
        decisions=tuple(
            {"part": p.index, **p.decision.model_dump()} for p in parts if p.decision is not None
        ),
        candidates=tuple(entries(parts, "candidates")),
        readings=tuple(entries(parts, "readings")),
        features=tuple(entries(parts, "features")),
        timings=total(voyage, parts),
    )


def _routed(part: Part, at: At) -> Part:
    return route(probe(part, at).part, at).part
