"""Replay: decide recorded requests again, from what the log kept, and say whether the decision is the same.

What is run again is the controller's own nodes, from the cut of the prompt to the steering plan; nothing is
generated and nothing is written. A decision that differs is laid to the artifacts that are no longer the
recorded ones. One that differs although nothing changed is `unexplained`: that is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..store.errors import PilothouseError, UsageError
from ..store.records import Decision, Frozen, Page, Part, Record, SteeringPlan
from ..store.version import code_version
from .nodes.plan import plan
from .nodes.probe import probe
from .nodes.route import route
from .nodes.steer import steer
from .nodes.step import At
from .voyage import Ask, Live, Ship, Steer, Unlogged, Voyage
from .whatif import first_try

SAME = 1e-4  # probabilities closer than this are the same: sums of floats differ between numbers of threads
CALLER = "the caller"  # what the steer node writes as the reading of a caller's own vector

Verdict = Literal["reproduced", "changed", "unexplained", "impossible"]
Stage = Literal["cut", "reading", "decision", "steering"]

# which kinds of artifact each stage reads; the stages before it count too
_READS: dict[Stage, frozenset[str]] = {
    "cut": frozenset({"trunk", "trunk-files", "probe", "family", "policy"}),
    "reading": frozenset({"trunk", "trunk-files", "probe", "family"}),
    "decision": frozenset({"policy", "family"}),
    "steering": frozenset({"vector", "policy", "family"}),
}


class Change(Frozen):
    """An artifact that is not the recorded one; None on the side that lacks it."""

    kind: str
    name: str
    recorded: str | None
    now: str | None

    def __str__(self) -> str:
        sides = (f"{side[:12]}" if side is not None else "absent" for side in (self.recorded, self.now))
        return f"{self.kind} {self.name} ({' → '.join(sides)})"


class Mismatch(Frozen):
    """One value that came out differently. Values are JSON values."""

    part: int
    stage: Stage
    field: str
    recorded: Any
    now: Any


class Replay(Frozen):
    """What deciding a record again showed.

    `changed` lists every artifact that differs from the recorded one, `blamed` those that can explain the
    mismatches. `largest` is the greatest difference of any P(correct) or reading. `decisions` are today's.
    """

    record_id: str
    verdict: Verdict
    reason: str
    decisions: tuple[Decision, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    changed: tuple[Change, ...] = ()
    blamed: tuple[Change, ...] = ()
    largest: float = 0.0
    notes: tuple[str, ...] = ()


def replay(page: Page, ship: Ship) -> Replay:
    """Decide the record again with `ship`, and compare."""
    record = page.record
    obstacle = _obstacle(page)
    if obstacle is not None:
        return Replay(record_id=record.id, verdict="impossible", reason=obstacle)
    changed = changes(record, ship)
    try:
        again = _again(page, ship)
    except PilothouseError as error:
        return _failed(record, changed, error)
    notes: list[str] = []
    found = tuple(_compare(record, again, notes))
    if found and page.redacted:
        reason = "its texts were redacted before they were written, and what is left is decided otherwise"
        return Replay(record_id=record.id, verdict="impossible", reason=reason, changed=changed)
    return Replay(
        record_id=record.id,
        decisions=tuple(part.decision for part in again.parts if part.decision is not None),
        mismatches=found,
        changed=changed,
        largest=_largest(record.parts, again.parts),
        notes=tuple(dict.fromkeys(notes)),
        **_judged(found, changed),
    )


def _obstacle(page: Page) -> str | None:
    """Why the record cannot be decided again, in one sentence; None where it can."""
    record = page.record
    if page.erased_at is not None:
        return f"its texts were erased at {page.erased_at}; a decision needs what was asked"
    if page.prompt is None or len(page.messages) != len(record.request.messages):
        return "its texts were never kept; a decision needs what was asked"
    if not any(part.decision is not None for part in record.parts):
        return f"it ended ({record.status}) before anything was decided"
    return None


def changes(record: Record, ship: Ship) -> tuple[Change, ...]:
    """The artifacts, and the code, that are not the recorded ones."""
    before = {(one.kind, one.name): one.sha256 for one in record.artifacts}
    now = {(one.kind, one.name): one.sha256 for one in ship.artifacts}
    recorded, policy = _policy_hash(record), ship.policy.hash if ship.policy is not None else None
    if recorded is not None and recorded != policy:
        # the policy in force may be none of the family's files: it can be given when a Pilot is made
        before["policy", "policy"], now["policy", "policy"] = recorded, policy or "none"
    before["code", "pilothouse"], now["code", "pilothouse"] = record.code_version, code_version()
    return tuple(
        Change(kind=key[0], name=key[1], recorded=before.get(key), now=now.get(key))
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    )


def _policy_hash(record: Record) -> str | None:
    found = (first_try(part)[0] for part in record.parts)
    return next((one.policy_hash for one in found if one is not None), None)


class _Again:
    """The parts as they come out today, and the way to ask for their steering again."""

    def __init__(self, voyage: Voyage, parts: Sequence[Part]) -> None:
        self.voyage, self.parts = voyage, parts
        self.by_index: Mapping[int, Part] = {part.index: part for part in parts}

    def steered(self, part: Part, word: Steer) -> SteeringPlan:
        """The plan for a decided part, with the caller's word on it."""
        self.voyage.ask = replace(self.voyage.ask, steer=word)
        return steer(part, At(self.voyage, _nowhere)).part.steering


def _again(page: Page, ship: Ship) -> _Again:
    """Cut, read and decide the request with the controller's nodes. Raises PilothouseError as they do."""
    request = page.record.request
    ask = Ask(
        turns=page.messages,
        thread_id=request.thread_id,
        specialist=request.forced_specialist,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        use_history=False,
    )
    # the record's own id, from which exploration draws; nothing is logged
    voyage = Voyage(replace(ship, log=Unlogged()), ask, _nowhere, record_id=page.record.id)
    at = At(voyage, _nowhere)
    return _Again(voyage, [route(probe(part, at).part, at).part for part in plan(voyage, ())])


def read_again(page: Page, ship: Ship) -> Mapping[int, Live]:
    """What the scout sees in a recorded request, by part; nothing is generated and nothing is written.

    Raises UsageError where the record cannot be read again, and PilothouseError as the controller's nodes do.
    """
    obstacle = _obstacle(page)
    if obstacle is not None:
        raise UsageError(f"record {page.record.id} cannot be read again: {obstacle}")
    return _again(page, ship).voyage.live


def _nowhere(event: object) -> None:
    """Where the text of an abstention goes."""


# -- comparing ---------------------------------------------------------------------------------------------


def _compare(record: Record, again: _Again, notes: list[str]) -> Iterator[Mismatch]:
    before = [part.prompt_sha256 for part in record.parts]
    if len(before) != len(again.parts):
        yield Mismatch(part=0, stage="cut", field="parts", recorded=len(before), now=len(again.parts))
        notes.append("the settings `parts` and `prompt_characters` are not in the record and may differ")
        return
    for part in record.parts:
        decision, _ = first_try(part)
        if decision is None:
            notes.append(f"part {part.index + 1} ended before anything was decided")
            continue
        now = again.by_index[part.index]
        yield from _readings(part, now)
        yield from _decisions(part, decision, now)
        if now.decision is not None and now.decision.chosen == decision.chosen is not None:
            yield from _steering(part, now, again, notes)


def _readings(part: Part, now: Part) -> Iterator[Mismatch]:
    """P(correct) and readings, which the trunk and the probes make."""
    pairs = (
        ("readings", _beliefs(part.readings, "probe"), _beliefs(now.readings, "probe")),
        ("candidates", _beliefs(part.candidates, "specialist"), _beliefs(now.candidates, "specialist")),
    )
    for field, before, after in pairs:
        for name in dict.fromkeys([*before, *after]):
            one, two = before.get(name), after.get(name)
            if one is None or two is None or abs(one - two) > SAME:
                yield Mismatch(
                    part=part.index, stage="reading", field=f"{field}.{name}", recorded=one, now=two
                )


def _beliefs(rows: Sequence[Any], key: str) -> dict[str, float]:
    belief = "probability" if key == "probe" else "p_correct"
    return {getattr(row, key): getattr(row, belief) for row in rows}


def _decisions(part: Part, before: Decision, now: Part) -> Iterator[Mismatch]:
    after = now.decision
    for field in ("chosen", "abstained", "forced", "propensity"):
        one, two = getattr(before, field), getattr(after, field, None)
        same = abs(one - two) <= SAME if isinstance(one, float) and isinstance(two, float) else one == two
        if not same:
            yield Mismatch(part=part.index, stage="decision", field=field, recorded=one, now=two)


def _steering(part: Part, now: Part, again: _Again, notes: list[str]) -> Iterator[Mismatch]:
    _, before = first_try(part)
    extra = {entry.name: entry.coefficient for entry in before.entries if entry.reading == CALLER}
    plans = [again.steered(now, Steer(off=off, extra=extra)) for off in (False, True)]
    if _entries(before) == _entries(plans[0]):
        return
    if _entries(before) == _entries(plans[1]):
        notes.append("its steering is the policy's only if the caller switched it off, which is not recorded")
        return
    one, two = ([entry.model_dump(mode="json") for entry in plan.entries] for plan in (before, plans[0]))
    yield Mismatch(part=part.index, stage="steering", field="entries", recorded=one, now=two)


def _entries(plan: SteeringPlan) -> dict[str, Any]:
    return {entry.name: entry for entry in plan.entries}


def _largest(before: Sequence[Part], after: Sequence[Part]) -> float:
    """The greatest difference of a probability that both sides have."""
    widest = 0.0
    for one, two in zip(before, after, strict=False):
        for key, rows in (("probe", "readings"), ("specialist", "candidates")):
            old, new = _beliefs(getattr(one, rows), key), _beliefs(getattr(two, rows), key)
            widest = max([widest, *(abs(old[name] - new[name]) for name in old.keys() & new.keys())])
    return widest


# -- judging -----------------------------------------------------------------------------------------------


def _judged(found: Sequence[Mismatch], changed: Sequence[Change]) -> dict[str, Any]:
    """Verdict, reason and blamed artifacts."""
    if not found:
        aside = f"; changed without effect on it: {_listed(changed)}" if changed else ""
        return {"verdict": "reproduced", "reason": f"the same decision{aside}"}
    what = f"{_differing(found)} now"
    blamed = _blamed(found, changed)
    if not blamed:
        reason = f"{what}, although no artifact changed; please report this"
        return {"verdict": "unexplained", "reason": reason}
    return {"verdict": "changed", "reason": f"{what}; changed: {_listed(blamed)}", "blamed": tuple(blamed)}


def _differing(found: Sequence[Mismatch]) -> str:
    """The mismatch that matters most, in words."""
    order: tuple[Stage, ...] = ("cut", "decision", "steering", "reading")
    one = min(found, key=lambda miss: (order.index(miss.stage), miss.field != "chosen"))
    if one.stage == "steering":
        return "it would be steered differently"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{one.field} was {_told(one.recorded)} and is {_told(one.now)}{more}"


def _told(value: Any) -> str:
    if value is None:
        return "nobody"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _blamed(found: Sequence[Mismatch], changed: Sequence[Change]) -> list[Change]:
    """The changed artifacts that the earliest differing stage reads; else all that changed."""
    order: tuple[Stage, ...] = ("cut", "reading", "decision", "steering")
    stage = min((miss.stage for miss in found), key=order.index)
    return [one for one in changed if one.kind in _READS[stage]] or list(changed)


def _listed(changed: Sequence[Change], most: int = 4) -> str:
    more = f" and {len(changed) - most} more" if len(changed) > most else ""
    return ", ".join(map(str, changed[:most])) + more


def _failed(record: Record, changed: tuple[Change, ...], error: PilothouseError) -> Replay:
    """A record that can no longer be decided: laid to what changed, else told as it is."""
    if not changed:
        return Replay(record_id=record.id, verdict="impossible", reason=str(error))
    reason = f"it cannot be decided now ({error}); changed: {_listed(changed)}"
    return Replay(record_id=record.id, verdict="changed", reason=reason, changed=changed, blamed=changed)
