"""What the log can teach: decisions whose outcome became known, ready to be judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..router.policy import Policy
from ..router.recalibrate import chances
from ..store.records import Decision, Page, Part, Reading

_SAME = 1e-6  # two propensities closer than this are one


@dataclass(frozen=True)
class Trial:
    """One decided request and what came of it.

    p_correct: what the probes said of every specialist, before any scaling. chosen and propensity: of the
    first choice. logging: the serving policy's chance of every choice. answered: who gave the answer in the
    end (another one, after an escalation). reward: 0 to 1.
    """

    record_id: str
    thread_id: str
    at: str
    p_correct: Mapping[str, float]
    readings: tuple[Reading, ...]
    chosen: str
    propensity: float
    logging: Mapping[str | None, float]
    answered: str
    reward: float


@dataclass(frozen=True)
class Trials:
    """Trials, oldest first; why other records were left out; decisions that were abstentions."""

    kept: tuple[Trial, ...]
    left_out: Mapping[str, int]
    abstained: tuple[tuple[Mapping[str, float], tuple[Reading, ...]], ...] = ()


def trials_of(
    pages: Iterable[Page], policy: Policy, refit: str | None = None, source: str | None = None
) -> Trials:
    """Read the trials of `policy`, with the refit of that name in force, out of a log; `source` takes
    outcomes of that source only.

    A record's reward is the mean of its scores within 0 and 1.
    """
    kept: list[Trial] = []
    left_out: Counter[str] = Counter()
    abstained = []
    for page in pages:
        part = page.record.parts[0] if page.record.parts else Part()
        first = part.hops[0].decision if part.hops else part.decision
        reason = _unfit(page, first, policy, refit)
        if reason is None and first is not None and first.abstained:
            abstained.append((raw_beliefs(part, policy), part.readings))
            continue
        found = _trial(page, part, first, policy, source) if reason is None else reason
        if isinstance(found, str):
            left_out[found] += 1
        else:
            kept.append(found)
    return Trials(tuple(kept), dict(left_out), tuple(abstained))


def _unfit(page: Page, decision: Decision | None, policy: Policy, refit: str | None) -> str | None:
    """Why a record's decision cannot be judged; None when it can."""
    if page.record.status not in ("completed", "abstained") or decision is None:
        return "not answered"
    if len(page.record.parts) > 1:
        return "several parts under one outcome"
    if decision.forced:
        return "forced by name"
    used = next((one.name for one in page.record.artifacts if one.kind == "refit"), None)
    same = decision.policy_hash == policy.hash and used == refit
    return None if same else "decided under another policy or refit"


def _trial(page: Page, part: Part, first: Decision | None, policy: Policy, source: str | None) -> Trial | str:
    """The trial, or why there is none."""
    told = [one for one in page.outcomes if one.score is not None and source in (None, one.source)]
    scores = [one.score for one in told if one.score is not None and 0 <= one.score <= 1]
    if not scores:
        return "no outcome with a score" if not told else "a score outside 0 to 1"
    p_correct = raw_beliefs(part, policy)
    if first is None or first.chosen not in p_correct or part.specialist is None:
        return "no probability on record"
    logging = chances(policy, p_correct, part.readings)
    if abs(logging.get(first.chosen, 0.0) - first.propensity) > _SAME:
        return "its propensity is not this policy's"
    return Trial(
        record_id=page.record.id,
        thread_id=page.record.thread_id,
        at=page.record.created_at,
        p_correct=p_correct,
        readings=part.readings,
        chosen=first.chosen,
        propensity=first.propensity,
        logging=logging,
        answered=part.specialist,
        reward=sum(scores) / len(scores),
    )


def raw_beliefs(part: Part, policy: Policy) -> dict[str, float]:
    """What the probes said, before the out-of-distribution reading scaled it; empty where it scaled to 0."""
    known = 1.0
    if policy.ood is not None and policy.ood.scale:
        found = [one.probability for one in part.readings if one.probe == policy.ood.reading]
        known = 1.0 - found[0] if found else 0.0
    if known <= 0:
        return {}
    return {one.specialist: min(1.0, one.p_correct / known) for one in part.candidates}
