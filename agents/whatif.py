"""What another policy or price list would have done with the recorded requests. Loads no model.

Everything a policy weighs is in the record: every candidate's P(correct) and every reading. So the decision
is made again exactly. What the other specialist would have *said* is not in the log: quality is what the
probes believe, and the report says what it cannot know.

Intervals resample conversations, since the requests of one are not independent (Efron and Tibshirani, 'An
Introduction to the Bootstrap', 1993, percentile interval).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..router.policy import Policy
from ..store.errors import PilothouseError, UsageError
from ..store.records import Candidate, Decision, Frozen, Page, Part, SteeringPlan

NOBODY = "nobody"
UNITS = 4096  # conversations resampled singly; more are dealt into so many groups
RESAMPLES = 2000
LEVEL = 0.95
SHOWN = 50  # moved decisions that are listed one by one


class Compared(Frozen):
    """A quantity as it was and as it would have been; `low` to `high` is the interval of the difference."""

    before: float
    after: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """after - before."""
        return self.after - self.before


class Move(Frozen):
    """How many decisions would have gone from one specialist to another (`nobody`: an abstention)."""

    source: str
    target: str
    count: int


class Moved(Frozen):
    """One decision that would have been another."""

    record_id: str
    part: int
    was: str
    would_be: str
    p_was: float | None
    p_would_be: float | None
    reason: str


class Measured(Frozen):
    """Late outcomes with a score, over records whose decision stays (`kept`) or would have moved.

    `lowest` and `highest` bound the mean score under the new policy, whatever the moved ones would have
    scored; None where a score lies outside 0 to 1.
    """

    kept: int
    moved: int
    kept_mean: float | None
    mean: float | None
    lowest: float | None = None
    highest: float | None = None


class WhatIf(Frozen):
    """The report. `decisions` counts what was decided again; `left_out` says why the rest was not.

    coverage: share that somebody answers. believed: mean P(correct), an abstention counting 0.
    believed_answered: mean P(correct) of what is answered. cost: price per request; `repriced` is the old
    choices' price in the new list.
    """

    policy_hash: str
    records: int
    decisions: int
    conversations: int
    forced: int
    left_out: dict[str, int]
    moves: tuple[Move, ...]
    moved: int
    coverage: Compared | None
    believed: Compared | None
    believed_answered: Compared | None
    cost: Compared | None
    repriced: float | None
    measured: Measured
    examples: tuple[Moved, ...]
    unknown: tuple[str, ...]


class Case(NamedTuple):
    """One decision made twice: the chosen candidates, None for an abstention."""

    was: Candidate | None
    now: Candidate | None
    decision: Decision
    repriced: float


class LeftOut(Exception):
    """Why a recorded decision cannot be made again."""


def first_try(part: Part) -> tuple[Decision | None, SteeringPlan]:
    """What routing decided: the first attempt's decision and plan, before any escalation."""
    one = part.hops[0] if part.hops else part
    return one.decision, one.steering


def decide_again(
    record_id: str, part: Part, policy: Policy, bases: Mapping[str, Policy], forced: str | None = None
) -> Case:
    """Make a part's first decision again under `policy`. `bases` are the policies at hand, by hash: the
    recorded one must be there, to know how it scaled the recorded P(correct).

    Raises LeftOut.
    """
    before, _ = first_try(part)
    if before is None:
        raise LeftOut("ended before anything was decided")
    if not part.candidates:
        raise LeftOut("decided without probes")
    base = bases.get(before.policy_hash)
    if base is None:
        raise LeftOut(
            f"decided under the policy {before.policy_hash[:12]}, which is not at hand (--base FILE)"
        )
    scale = _scaled(part, policy) / _unscaled(part, base)
    chances = {one.specialist: min(1.0, one.p_correct * scale) for one in part.candidates}
    # the chances are scaled already; the policy must not do it twice
    weigh = policy.model_copy(update={"ood": policy.ood and policy.ood.model_copy(update={"scale": False})})
    rng = random.Random(f"{record_id}:{part.index}")  # as the route node draws
    try:
        decision, found = weigh.decide(chances, part.readings, forced=forced, rng=rng)
    except PilothouseError as error:
        raise LeftOut(f"the new policy needs what the record lacks: {error}") from error
    prices = {one.specialist: one.cost for one in found}
    old = _named(part.candidates, before.chosen)
    return Case(old, _named(found, decision.chosen), decision, prices[old.specialist] if old else 0.0)


def _scaled(part: Part, policy: Policy) -> float:
    """What the policy multiplies every P(correct) with."""
    if policy.ood is None or not policy.ood.scale:
        return 1.0
    name = policy.ood.reading
    for reading in part.readings:
        if reading.probe == name:
            return 1.0 - reading.probability
    raise LeftOut(f"the record lacks the reading {name!r}")


def _unscaled(part: Part, base: Policy) -> float:
    scale = _scaled(part, base)
    if scale <= 0.0:
        raise LeftOut("its P(correct) was scaled to nothing, so what it was is lost")
    return scale


def _named(found: Iterable[Candidate], name: str | None) -> Candidate | None:
    return next((one for one in found if one.specialist == name), None)


@dataclass
class _Sums:
    """What is summed up over a log, conversation by conversation."""

    # per conversation: decisions, answered before and after, P before and after, cost before and after
    units: dict[str, list[float]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[Moved] = field(default_factory=list)
    scores: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    records: int = 0
    forced: int = 0
    repriced: float = 0.0

    def add(self, page: Page, policy: Policy, bases: Mapping[str, Policy]) -> None:
        self.records += 1
        record = page.record
        if record.request.forced_specialist is not None:
            self.forced += 1
            return
        cases = []
        for part in record.parts:
            try:
                case = decide_again(record.id, part, policy, bases)
            except LeftOut as why:
                self.left_out[str(why)] += 1
                continue
            cases.append(case)
            self._take(page, part, case)
        if not record.parts:
            self.left_out["ended before anything was decided"] += 1
        if len(cases) == len(record.parts) and cases:
            stays = all(_who(case.was) == _who(case.now) for case in cases)
            self.scores[stays] += [one.score for one in page.outcomes if one.score is not None]

    def _take(self, page: Page, part: Part, case: Case) -> None:
        was, now = _who(case.was), _who(case.now)
        self.moves[was, now] += 1
        self.repriced += case.repriced
        # the recorded P(correct) measures both choices, so that only the choice makes the difference
        ruler = {one.specialist: one.p_correct for one in part.candidates}
        p_was, p_now = ruler.get(was), ruler.get(now)
        row = [
            1.0,
            float(case.was is not None),
            float(case.now is not None),
            p_was or 0.0,
            p_now or 0.0,
            case.was.cost if case.was else 0.0,
            case.now.cost if case.now else 0.0,
        ]
        unit = self.units.setdefault(page.record.thread_id, [0.0] * len(row))
        unit[:] = (one + two for one, two in zip(unit, row, strict=True))
        if was != now and len(self.examples) < SHOWN:
            self.examples.append(
                Moved(
                    record_id=page.record.id,
                    part=part.index,
                    was=was,
                    would_be=now,
                    p_was=p_was,
                    p_would_be=p_now,
                    reason=case.decision.reason,
                )
            )


def _who(one: Candidate | None) -> str:
    return one.specialist if one is not None else NOBODY


def what_if(pages: Iterable[Page], policy: Policy, bases: Sequence[Policy] = (), seed: int = 0) -> WhatIf:
    """Decide every page again under `policy`, and compare. `bases`: the policies that records may be of.

    Holds a few numbers per conversation, so any log fits. Forced requests stay forced and are only counted.
    """
    sums, known = _Sums(), {one.hash: one for one in (*bases, policy)}
    for page in pages:
        sums.add(page, policy, known)
    decisions = sum(sums.moves.values())
    coverage, believed, answered, cost = _compared(list(sums.units.values()), seed)
    moved = sum(count for (was, now), count in sums.moves.items() if was != now)
    measured = _measured(sums.scores[True], sums.scores[False])
    return WhatIf(
        policy_hash=policy.hash,
        records=sums.records,
        decisions=decisions,
        conversations=len(sums.units),
        forced=sums.forced,
        left_out=dict(sums.left_out.most_common()),
        moves=tuple(
            Move(source=was, target=now, count=count) for (was, now), count in sums.moves.most_common()
        ),
        moved=moved,
        coverage=coverage,
        believed=believed,
        believed_answered=answered,
        cost=cost,
        repriced=sums.repriced / decisions if decisions else None,
        measured=measured,
        examples=tuple(sums.examples),
        unknown=tuple(_unknown(moved, measured)),
    )


# numerator and denominator of each quantity, before and after, as columns of a unit
_RATIOS = ((1, 0, 2, 0), (3, 0, 4, 0), (3, 1, 4, 2), (5, 0, 6, 0))


def _compared(units: Sequence[Sequence[float]], seed: int) -> tuple[Compared | None, ...]:
    """The four quantities with the intervals of their differences."""
    if not units:
        return (None,) * len(_RATIOS)
    import numpy as np

    rows = np.zeros((min(len(units), UNITS), len(units[0])))
    np.add.at(rows, np.arange(len(units)) % UNITS, np.asarray(units))
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=RESAMPLES)
    samples, whole = drawn @ rows, rows.sum(axis=0)
    edge = 100 * (1 - LEVEL) / 2
    found: list[Compared | None] = []
    for top, base, new_top, new_base in _RATIOS:
        if not whole[base] or not whole[new_base]:
            found.append(None)
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = samples[:, new_top] / samples[:, new_base] - samples[:, top] / samples[:, base]
        low, high = np.percentile(spread[np.isfinite(spread)], [edge, 100 - edge])
        before, after = float(whole[top] / whole[base]), float(whole[new_top] / whole[new_base])
        found.append(Compared(before=before, after=after, low=float(low), high=float(high)))
    return tuple(found)


def _measured(kept: Sequence[float], moved: Sequence[float]) -> Measured:
    every = [*kept, *moved]
    bounded = bool(every) and all(0.0 <= score <= 1.0 for score in every)
    return Measured(
        kept=len(kept),
        moved=len(moved),
        kept_mean=sum(kept) / len(kept) if kept else None,
        mean=sum(every) / len(every) if every else None,
        lowest=sum(kept) / len(every) if bounded else None,
        highest=(sum(kept) + len(moved)) / len(every) if bounded else None,
    )


def _unknown(moved: int, measured: Measured) -> Iterable[str]:
    if moved:
        yield (
            "what the other specialist would have answered, and whether its answer had passed its checks: "
            "it was not asked; P(correct) is what the probes believe of it"
        )
        yield "how the conversations would have gone on after another answer"
    if measured.moved:
        yield f"the scores of the {measured.moved} scored answers that would have come from somebody else"
    if not measured.kept and not measured.moved:
        yield "whether the probes are right on these requests: no outcome with a score was recorded"


def changed_policy(
    policy: Policy, prices: Sequence[str] = (), lam: float | None = None, threshold: float | None = None
) -> Policy:
    """The policy with some prices (`NAME=PRICE`), lam or threshold replaced.

    Raises UsageError for what cannot be read, or is out of range.
    """
    fresh = dict(policy.prices)
    for text in prices:
        name, _, price = text.partition("=")
        try:
            fresh[name.strip()] = float(price)
        except ValueError as error:
            raise UsageError(
                f"price {text!r} cannot be read; write SPECIALIST=PRICE, for example facts=0.5"
            ) from error
    values = policy.model_dump() | {"prices": fresh}
    values |= {} if lam is None else {"lam": lam}
    values |= {} if threshold is None else {"threshold": threshold}
    try:
        return Policy.model_validate(values)
    except ValueError as error:
        raise UsageError(f"the changed policy cannot be: {error}; correct the value") from error
