"""Learning from the log: planted miscalibration is found and mended, and what cannot be told is refused."""

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pilothouse.agents.refit import judge, refit, split
from pilothouse.agents.refits import Refit, Refits, digests
from pilothouse.agents.trials import Trial, trials_of
from pilothouse.router.policy import OutOfDistribution, Override, Policy
from pilothouse.router.probes.calibrate import Capped, Isotonic, Platt
from pilothouse.router.probes.probe import Probe, ProbeBank
from pilothouse.router.recalibrate import Map, chances
from pilothouse.router.taps import Site
from pilothouse.store.audit import Audit
from pilothouse.store.errors import ArtifactError, NotFoundError, UsageError
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import (
    Artifact,
    Generation,
    Message,
    Outcome,
    Part,
    Reading,
    Request,
    utc_now,
)

SPECIALISTS = ("a", "b", "c")
# what the probes say is wrong in a known way: logit P(true) = slope * logit P(said) + shift
PLANTED = {"a": (0.5, -1.5), "b": (1.0, 1.0), "c": (1.0, 0.0)}
HONEST = dict.fromkeys(SPECIALISTS, (1.0, 0.0))


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def world(
    count: int, policy: Policy, planted: dict[str, tuple[float, float]], seed: int, start: int = 0
) -> Iterator[Trial]:
    """Decisions of `policy` on beliefs that are wrong as planted, and what came of them."""
    rng = random.Random(seed)
    for number in range(start, start + count):
        said = {name: rng.gauss(0.3, 1.2) for name in SPECIALISTS}
        p = {name: _sigmoid(logit) for name, logit in said.items()}
        decision, _ = policy.decide(p, rng=rng)
        name = decision.chosen
        assert name is not None
        slope, shift = planted[name]
        yield Trial(
            record_id=f"r{number}",
            thread_id=f"t{number // 2}",
            at=f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000000Z",
            p_correct=p,
            readings=(),
            chosen=name,
            propensity=decision.propensity,
            logging=chances(policy, p, ()),
            answered=name,
            reward=float(rng.random() < _sigmoid(slope * said[name] + shift)),
        )


EXPLORING = Policy(epsilon=0.2)


def test_planted_errors_are_found_mended_and_promoted() -> None:
    teaching, judging = split(list(world(3000, EXPLORING, PLANTED, seed=1)))
    assert {one.thread_id for one in teaching}.isdisjoint(one.thread_id for one in judging)
    assert max(one.at for one in teaching) < min(one.at for one in judging)
    found = refit(teaching, EXPLORING)
    for name, (slope, shift) in PLANTED.items():
        assert found.maps[name].a == pytest.approx(slope, abs=0.25)
        assert found.maps[name].b == pytest.approx(shift, abs=0.3)
    verdict = judge(judging, found, EXPLORING)
    assert verdict.promote, verdict.reasons
    assert verdict.losses.high < 0
    assert verdict.untold == 0
    assert verdict.moved > 0.1
    robust = next(one for one in verdict.gains if one.method == "dr")
    assert robust.low > 0


def test_honest_probabilities_are_not_replaced() -> None:
    """The control: with nothing to mend, most refits are refused, and none claims a gain."""
    refused = 0
    for seed in range(8):
        teaching, judging = split(list(world(800, EXPLORING, HONEST, seed)))
        verdict = judge(judging, refit(teaching, EXPLORING), EXPLORING)
        refused += not verdict.promote
    assert refused >= 7


def test_shuffled_outcomes_teach_nothing() -> None:
    from dataclasses import replace

    every = list(world(1500, EXPLORING, HONEST, seed=3))
    rewards = [one.reward for one in every]
    random.Random(4).shuffle(rewards)
    shuffled = [replace(one, reward=reward) for one, reward in zip(every, rewards, strict=True)]
    teaching, _ = split(shuffled)
    _, judging = split(every)
    assert not judge(judging, refit(teaching, EXPLORING), EXPLORING).promote


def test_without_exploration_changed_decisions_cannot_be_judged() -> None:
    greedy = Policy()
    teaching, judging = split(list(world(3000, greedy, PLANTED, seed=5)))
    verdict = judge(judging, refit(teaching, greedy), greedy)
    assert verdict.untold > 0.1
    assert any("set epsilon above 0" in reason for reason in verdict.reasons)


def test_too_few_outcomes_are_said() -> None:
    with pytest.raises(UsageError, match="too few"):
        split(list(world(60, EXPLORING, PLANTED, seed=6)))
    with pytest.raises(UsageError, match="nothing could be learned"):
        refit(list(world(30, EXPLORING, PLANTED, seed=6)), EXPLORING)


def test_the_threshold_is_set_anew_for_the_stated_risk() -> None:
    policy = Policy(epsilon=0.2, risk=0.1, threshold=0.1)
    found = refit(list(world(3000, policy.model_copy(update={"threshold": 0.0}), PLANTED, seed=7)), policy)
    assert found.policy.threshold > 0.5
    assert (found.policy.risk, found.policy.epsilon) == (0.1, 0.2)


# -- chances and maps ---------------------------------------------------------------------------------------


def _reading(name: str, fired: bool) -> Reading:
    p = 0.9 if fired else 0.1
    return Reading(probe=name, site="s", score=0.0, probability=p, threshold=0.5, fired=fired)


@pytest.mark.parametrize("fired", ["", "harm", "ood"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.99])
def test_chances_are_those_that_decisions_are_drawn_with(fired: str, threshold: float) -> None:
    policy = Policy(
        epsilon=0.3,
        threshold=threshold,
        lam=0.1,
        prices={"a": 3.0},
        overrides=(Override(reading="harm", specialist="c"),),
        ood=OutOfDistribution(),
    )
    readings = (_reading("harm", fired == "harm"), _reading("ood", fired == "ood"))
    p = {"a": 0.9, "b": 0.8, "c": 0.2}
    rng = random.Random(0)
    drawn = Counter(policy.decide(p, readings, rng=rng)[0].chosen for _ in range(4000))
    expected = chances(policy, p, readings)
    assert sum(expected.values()) == pytest.approx(1)
    for name in {*drawn, *expected}:
        assert drawn[name] / 4000 == pytest.approx(expected.get(name, 0.0), abs=0.03)


def test_a_map_composes_with_a_calibration() -> None:
    mend = Map(a=0.7, b=-0.4)
    platt = Platt(1.3, 0.2)
    steps = Isotonic((-1.0, 0.0, 2.0), (0.1, 0.4, 0.9))
    for score in (-3.0, -0.2, 0.0, 1.7):
        assert mend.after(platt).one(score) == pytest.approx(mend.one(platt.one(score)))
    for score in (-5.0, -1.0, 0.0, 2.0, 9.0):
        assert mend.after(steps).one(score) == pytest.approx(mend.one(steps.one(score)))
    for capped in (Capped(1.7, -0.4, 0.6), Capped(0.05, 2.0, 1.0)):
        for place in range(-100, 101):
            score = (place / 9 - capped.b) / capped.a
            assert mend.after(capped).one(score) == pytest.approx(mend.one(capped.one(score)), abs=1e-3)
    assert mend.after(Capped(-1.0, 0.3, 0.5)).one(7.0) == pytest.approx(mend.one(0.25))
    again = Map(a=2.0, b=0.3)
    assert again.following(mend).one(0.6) == pytest.approx(again.one(mend.one(0.6)))
    with pytest.raises(UsageError, match="fit the probe again"):
        Map.fit([0.1] * 50 + [0.9] * 50, [1] * 45 + [0] * 5 + [0] * 45 + [1] * 5)


# -- the log ------------------------------------------------------------------------------------------------


def _log(ledger: Ledger, policy: Policy, trial: Trial, refit: Artifact | None = None, **change: Any) -> str:
    record_id = ledger.begin(Request(messages=(Message(role="user", content=trial.record_id),)))
    decision, candidates = policy.decide(trial.p_correct, rng=random.Random(trial.record_id))
    part = Part(
        decision=decision.model_copy(update=change),
        candidates=candidates,
        generation=Generation(specialist=decision.chosen, finish_reason="stop"),
    )
    ledger.finish(record_id, "completed", parts=[part], artifacts=[refit] if refit else [])
    return record_id


def test_trials_come_out_of_the_log(tmp_path: Path) -> None:
    policy = Policy(epsilon=0.2, prices={"a": 0.5}, lam=0.1)
    made = list(world(6, policy, HONEST, seed=8))
    with Ledger.open(tmp_path / "log.db", code="test") as ledger:
        names = [_log(ledger, policy, one) for one in made]
        for name in names[:4]:
            ledger.note(Outcome(record_id=name, source="verifier", verdict="right", score=1.0))
        ledger.note(Outcome(record_id=names[0], source="user", verdict="down", score=0.0))
        ledger.note(Outcome(record_id=names[4], source="user", verdict="stars", score=5.0))
        _log(ledger, policy, made[0], forced=True)
        _log(ledger, policy, made[0], policy_hash="ab" * 32)
        _log(ledger, policy, made[0], Artifact(kind="refit", name="other", sha256="cd" * 32))
        wrong = _log(ledger, policy, made[0], propensity=0.5)
        ledger.note(Outcome(record_id=wrong, source="user", verdict="up", score=1.0))
    with Audit.open(tmp_path / "log.db") as audit:
        found = trials_of(audit.pages(), policy)
        verified = trials_of(audit.pages(), policy, source="verifier")
    assert [one.record_id for one in found.kept] == names[:4]
    assert [one.reward for one in found.kept] == [0.5, 1.0, 1.0, 1.0]
    assert [one.reward for one in verified.kept] == [1.0] * 4
    assert found.left_out == {
        "a score outside 0 to 1": 1,
        "no outcome with a score": 1,
        "forced by name": 1,
        "decided under another policy or refit": 2,
        "its propensity is not this policy's": 1,
    }
    for one in found.kept:
        assert one.logging[one.chosen] == pytest.approx(one.propensity)


# -- on disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def bank() -> ProbeBank:
    """Three probes over two numbers."""
    site = Site((1,))
    return ProbeBank(
        Probe(
            name=name,
            kind="correct",
            weight=torch.ones(2),
            bias=0.1,
            calibration=Platt(1.0, 0.0),
            threshold=0.5,
            site=site,
            fingerprint="f" * 64,
        )
        for name in SPECIALISTS
    )


@pytest.fixture
def learned(bank: ProbeBank) -> Callable[..., Refit]:
    """Make a refit of the planted world, over another one if given."""

    def make(over: Refit | None = None) -> Refit:
        teaching, judging = split(list(world(1200, EXPLORING, PLANTED, seed=9)))
        found = refit(teaching, EXPLORING)
        return Refit(
            family="toy",
            made_at=utc_now(),
            probes=digests(bank),
            serving=EXPLORING,
            over=over.name if over else None,
            base=over.whole if over else {},
            judgement=judge(judging, found, EXPLORING),
            **{name: getattr(found, name) for name in type(found).model_fields},
        )

    return make


def test_a_refit_is_kept_promoted_and_taken_back(
    tmp_path: Path, bank: ProbeBank, learned: Callable[..., Refit]
) -> None:
    kept, first = Refits("toy", tmp_path), learned()
    path = kept.save(first)
    assert kept.get("last") == kept.get(first.name[:5]) == first
    assert kept.state().current is None
    second = learned(over=first)
    kept.save(second)
    kept.promote(first)
    kept.promote(second)
    assert kept.state().current == second.name
    assert kept.rollback() == first.name
    assert kept.rollback() is None
    with pytest.raises(UsageError, match="nothing to take back"):
        kept.rollback()
    with pytest.raises(NotFoundError, match="no refit 'zzz'"):
        kept.get("zzz")
    x = torch.tensor([0.3, -0.8])
    before, after = bank.correct(x), first.applied(bank).correct(x)
    twice = second.applied(bank).correct(x)
    for name in SPECIALISTS:
        assert after[name] == pytest.approx(first.maps[name].one(before[name]))
        assert twice[name] == pytest.approx(second.maps[name].one(after[name]))
    assert first.fits(bank)
    assert not first.fits(first.applied(bank))
    body = json.loads(path.read_text())
    body["maps"]["a"]["a"] = 9.0
    path.write_text(json.dumps(body))
    with pytest.raises(ArtifactError, match="was changed"):
        kept.all()
