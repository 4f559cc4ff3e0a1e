"""Learn from the log: correct the probabilities by their outcomes, and judge the change before it is made.

The older part of the outcomes teaches, the newer part judges, so nothing is judged by what taught it. Better
probabilities change decisions; what those would have earned is estimated off-policy from the logged
propensities. The verdict is a rule written down here, not a judgement call.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..router.offpolicy import METHODS, Logged, Value, gain
from ..router.policy import Policy
from ..router.recalibrate import Map, apply, chances
from ..router.threshold import calibrate_threshold
from ..store.errors import UsageError
from ..store.records import Frozen
from .trials import Trial, Trials

TEACHING = 0.6  # share of the outcomes, the oldest, that the maps are fitted on
FEWEST = 40  # outcomes of one specialist below which its map is left alone
FEWEST_JUDGED = 50
MARGIN = 0.02  # a gain may be this far below 0 at worst
UNTOLD = 0.01  # share of decisions of which the log can say nothing


class Gain(Frozen):
    """An estimated gain in utility per decision over the serving policy, with its interval at 95 %."""

    method: str
    value: float
    low: float
    high: float
    n: int
    effective: float


class Losses(Frozen):
    """Mean log-loss (nats) of P(correct) on the judging outcomes, before and after; `low` to `high` is the
    interval of after - before.
    """

    before: float
    after: float
    low: float
    high: float
    n: int


class Judgement(Frozen):
    """What the judging outcomes say. `moved`: share of decisions that would be other ones. `untold`: share of
    the new policy's choices that the serving one could never make. `reasons` against it; none: promote.
    """

    outcomes: int
    moved: float
    untold: float
    newly_answered: int
    losses: Losses
    gains: tuple[Gain, ...]
    reasons: tuple[str, ...]

    @property
    def promote(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


class Refitted(Frozen):
    """Maps by specialist, the policy with its threshold set anew, and notes on what was left as it was."""

    maps: dict[str, Map]
    policy: Policy
    taught_until: str
    taught_by: int
    notes: tuple[str, ...] = ()


def split(trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """The older outcomes teach, the newer ones judge; a conversation is not cut in two.

    Raises UsageError when there are too few.
    """
    ordered = sorted(trials, key=lambda one: one.at)
    cut = int(len(ordered) * TEACHING)
    if len(ordered) - cut < FEWEST_JUDGED:
        raise UsageError(
            f"{len(ordered)} decisions with an outcome are too few: {FEWEST_JUDGED} must be left to judge "
            f"by, so collect {int(FEWEST_JUDGED / (1 - TEACHING)) + 1} or more"
        )
    old, new = ordered[:cut], ordered[cut:]
    talking = {one.thread_id for one in old}
    return old, [one for one in new if one.thread_id not in talking]


def refit(teaching: Sequence[Trial], policy: Policy) -> Refitted:
    """Fit a map for every specialist with enough outcomes, then the threshold, if the policy states a risk.

    Raises UsageError when no specialist has enough.
    """
    maps: dict[str, Map] = {}
    notes: list[str] = []
    for name in sorted({one.answered for one in teaching}):
        rows = [one for one in teaching if one.answered == name]
        try:
            maps[name] = _map(name, rows)
        except UsageError as error:
            notes.append(f"{name} stays as it was: {error}")
    if not maps:
        raise UsageError(f"nothing could be learned: {'; '.join(notes) or 'there are no outcomes'}")
    changed, note = _threshold(teaching, maps, policy)
    return Refitted(
        maps=maps,
        policy=changed,
        taught_until=max(one.at for one in teaching),
        taught_by=len(teaching),
        notes=(*notes, *note),
    )


def _map(name: str, rows: Sequence[Trial]) -> Map:
    right = [_right(one) for one in rows]
    if len(rows) < FEWEST or not 0 < sum(right) < len(right):
        raise UsageError(f"{len(rows)} outcomes, {sum(right)} good; {FEWEST} with both kinds are needed")
    return Map.fit([one.p_correct[name] for one in rows], right)


def _right(one: Trial) -> int:
    return int(one.reward >= 0.5)


def _threshold(
    teaching: Sequence[Trial], maps: dict[str, Map], policy: Policy
) -> tuple[Policy, tuple[str, ...]]:
    """The policy with the lowest threshold that keeps its stated risk."""
    if policy.risk is None:
        return policy, ()
    chosen, right = [], []
    for one in teaching:
        p = apply(maps, one.p_correct)
        best = policy.candidates(p, one.readings)[0]
        if best.specialist == one.answered:  # of another choice, the outcome is not known
            chosen.append(best.p_correct)
            right.append(_right(one))
    try:
        found = calibrate_threshold(chosen, right, policy.risk)
    except UsageError as error:
        return policy, (f"the threshold stays {policy.threshold:g}: {error}",)
    return policy.model_copy(update={"threshold": found}), ()


def judge(
    trials: Sequence[Trial],
    refitted: Refitted,
    serving: Policy,
    abstained: Trials | None = None,
) -> Judgement:
    """Judge a refit by outcomes that did not teach it. Raises UsageError when they are too few."""
    if len(trials) < FEWEST_JUDGED:
        raise UsageError(f"{len(trials)} outcomes are too few to judge by; wait for {FEWEST_JUDGED}")
    wanted = [chances(refitted.policy, apply(refitted.maps, one.p_correct), one.readings) for one in trials]
    moved = sum(_moves(one, new) for one, new in zip(trials, wanted, strict=True)) / len(trials)
    untold = sum(
        share
        for one, new in zip(trials, wanted, strict=True)
        for name, share in new.items()
        if name is not None and one.logging.get(name, 0.0) == 0
    ) / len(trials)
    logged = _logged(trials, wanted, refitted, serving)
    gains = tuple(
        _gain(gain(logged, method)) for method in METHODS if method != "snips" or logged.weight.any()
    )
    losses = _losses(trials, refitted)
    answered = _newly_answered(refitted, abstained)
    return Judgement(
        outcomes=len(trials),
        moved=moved,
        untold=untold,
        newly_answered=answered,
        losses=losses,
        gains=gains,
        reasons=tuple(_against(losses, gains, untold, answered, abstained)),
    )


def _moves(one: Trial, new: dict[str | None, float]) -> bool:
    before = max(one.logging, key=lambda name: one.logging[name])
    return max(new, key=lambda name: new[name]) != before


def _newly_answered(refitted: Refitted, abstained: Trials | None) -> int:
    """How many logged abstentions the new policy would answer; what would come of them, no log can say."""
    return sum(
        None not in chances(refitted.policy, apply(refitted.maps, p), readings)
        for p, readings in (abstained.abstained if abstained is not None else ())
        if p
    )


def _logged(
    trials: Sequence[Trial],
    wanted: Sequence[dict[str | None, float]],
    refitted: Refitted,
    serving: Policy,
) -> Logged:
    """Utilities: reward less the price; an abstention earns 0. The model of reward is the new P(correct)."""

    def cost(name: str) -> float:
        return serving.lam * serving.prices.get(name, serving.default_price)

    reward, predicted, baseline, target = [], [], [], []
    for one, new in zip(trials, wanted, strict=True):
        belief = {name: p - cost(name) for name, p in apply(refitted.maps, one.p_correct).items()}
        reward.append(one.reward - cost(one.chosen))
        predicted.append(belief[one.chosen])
        baseline.append(sum(share * belief[name] for name, share in new.items() if name is not None))
        target.append(new.get(one.chosen, 0.0))
    return Logged(
        reward=np.asarray(reward),
        propensity=np.asarray([one.propensity for one in trials]),
        target=np.asarray(target),
        predicted=np.asarray(predicted),
        baseline=np.asarray(baseline),
        groups=[one.thread_id for one in trials],
    )


def _gain(found: Value) -> Gain:
    return Gain(**found._asdict())


def _losses(trials: Sequence[Trial], refitted: Refitted) -> Losses:
    before = np.array([_loss(one.p_correct[one.answered], _right(one)) for one in trials])
    new = [apply(refitted.maps, one.p_correct)[one.answered] for one in trials]
    after = np.array([_loss(p, _right(one)) for p, one in zip(new, trials, strict=True)])
    change = after - before
    half = 1.96 * float(change.std(ddof=1)) / len(change) ** 0.5
    mean = float(change.mean())
    return Losses(
        before=float(before.mean()),
        after=float(after.mean()),
        low=mean - half,
        high=mean + half,
        n=len(trials),
    )


def _loss(p: float, right: int) -> float:
    kept = min(max(p, 1e-6), 1 - 1e-6)
    return float(-np.log(kept if right else 1 - kept))


def _against(
    losses: Losses, gains: Sequence[Gain], untold: float, answered: int, abstained: Trials | None
) -> list[str]:
    """Every reason not to promote."""
    found = []
    if losses.low > 0:
        found.append(
            f"its probabilities are worse: log-loss {losses.before:.3f} before, {losses.after:.3f} after"
        )
    elif losses.high >= 0:
        found.append(
            f"its probabilities are not clearly better: log-loss {losses.before:.3f} before, "
            f"{losses.after:.3f} after, change {losses.low:+.3f} to {losses.high:+.3f}"
        )
    robust = next(one for one in gains if one.method == "dr")
    if robust.low < -MARGIN:
        found.append(
            f"it may earn less: {robust.value:+.3f} a decision, {robust.low:+.3f} to {robust.high:+.3f}, and "
            f"{-MARGIN:+.2f} is the least allowed"
        )
    if untold > UNTOLD:
        found.append(
            f"of {untold:.1%} of its choices the log can say nothing, because the serving policy never makes "
            "them; set epsilon above 0 for a while"
        )
    count = len(abstained.abstained) if abstained is not None else 0
    if answered > UNTOLD * max(count, 1):
        found.append(
            f"it would answer {answered} of {count} prompts that were abstained from, and what would come of "
            "that is not known; --force if that is wanted"
        )
    return found
