"""What another policy would have done: the log alone gives the decision that the controller would make."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from toy_family import Tiny, toy_prompts

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.whatif import WhatIf, changed_policy, what_if
from pilothouse.router.policy import OutOfDistribution, Policy
from pilothouse.store.audit import Audit
from pilothouse.store.errors import UsageError
from pilothouse.store.records import (
    MessageRef,
    Outcome,
    Page,
    Part,
    Reading,
    Record,
    RequestMeta,
    new_id,
    utc_now,
)

ZERO = "0" * 64


def page(
    policy: Policy,
    chances: dict[str, float],
    *,
    thread: str | None = None,
    outside: float = 0.1,
    score: float | None = None,
    forced: str | None = None,
) -> Page:
    """A record as the controller would have written it under `policy`."""
    name = new_id()
    reading = Reading(
        probe="outside", site="s", score=0.0, probability=outside, threshold=0.9, fired=outside >= 0.9
    )
    decision, found = policy.decide(chances, (reading,), forced=forced, rng=random.Random(f"{name}:0"))
    meta = RequestMeta(
        id=name,
        thread_id=thread or name,
        messages=(MessageRef(role="user", sha256=ZERO),),
        forced_specialist=forced,
        max_tokens=1,
        temperature=0,
        seed=0,
        created_at=utc_now(),
    )
    record = Record(
        id=name,
        thread_id=meta.thread_id,
        created_at=utc_now(),
        status="completed",
        request=meta,
        prompt_sha256=ZERO,
        parts=(Part(readings=(reading,), candidates=found, decision=decision),),
        code_version="test",
        sequence=1,
        prev_hash=ZERO,
        row_hash=ZERO,
    )
    outcomes = () if score is None else (Outcome(record_id=name, source="t", verdict="v", score=score),)
    return Page(record=record, outcomes=outcomes)


def log_of(policy: Policy, count: int = 60, seed: int = 0, **more: object) -> list[Page]:
    rng = random.Random(seed)
    return [
        page(
            policy,
            {"a": rng.random(), "b": rng.random()},
            outside=rng.random() * 0.8,
            score=float(rng.random() < 0.5),
            **more,  # type: ignore[arg-type]
        )
        for _ in range(count)
    ]


OLD = Policy(lam=0.1, prices={"a": 1.0, "b": 2.0}, threshold=0.4, ood=OutOfDistribution(reading="outside"))


@pytest.mark.parametrize("ood", [None, OutOfDistribution(reading="outside", scale=True)])
@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_the_recorded_policy_moves_nothing(ood: OutOfDistribution | None, epsilon: float) -> None:
    policy = OLD.model_copy(update={"ood": ood, "epsilon": epsilon})
    policy = Policy.model_validate(policy.model_dump())
    found = what_if(log_of(policy), policy)
    assert (found.records, found.decisions, found.moved, found.left_out) == (60, 60, 0, {})
    for one in (found.coverage, found.believed, found.believed_answered, found.cost):
        assert one is not None
        assert (one.change, one.low, one.high) == (0.0, 0.0, 0.0)
    assert found.repriced == pytest.approx(found.cost.before)  # type: ignore[union-attr]
    assert found.measured.moved == 0
    assert found.measured.lowest == found.measured.highest == found.measured.mean
    assert not found.unknown


def test_it_decides_as_the_controller_would(pilot: Pilot, tiny: Tiny) -> None:
    """The plain twin: the same prompts, answered under the new policy by the real controller."""
    new = Policy(
        lam=1.0,
        prices={"sums": 2.0, "words": 0.1},
        threshold=0.0,
        ood=OutOfDistribution(reading="outside", block=False, scale=True),
    )
    prompts = [p for kind in ("sums", "words", "about", "outside") for p in toy_prompts(kind, 5, 11)]
    for prompt in prompts:
        pilot.ask(prompt, max_tokens=1)
    with Audit.open() as audit:
        recorded = list(audit.pages())
    found = what_if(recorded, new, [tiny.family.policy or Policy()])
    really = []
    with Pilot(tiny.family, pilot.ship.log, tiny.engine, new, threads=False) as other:
        for prompt in prompts:
            other.ask(prompt, max_tokens=1)
    with Audit.open() as audit:
        really = list(audit.pages())[len(prompts) :]
    was = [one.record.parts[0].decision.chosen for one in recorded]  # type: ignore[union-attr]
    now = [one.record.parts[0].decision.chosen for one in really]  # type: ignore[union-attr]
    moved = [(a or "nobody", b or "nobody") for a, b in zip(was, now, strict=True) if a != b]
    assert moved  # the new policy does differ
    assert sorted((one.was, one.would_be) for one in found.examples) == sorted(moved)
    assert found.coverage is not None
    assert found.coverage.after == pytest.approx(sum(name is not None for name in now) / len(now))


def test_scaled_chances_are_unscaled() -> None:
    scaled = Policy(threshold=0.4, ood=OutOfDistribution(reading="outside", block=False, scale=True))
    plain = Policy(threshold=0.4)
    rows = log_of(scaled, 40, 5)
    found = what_if(rows, plain, [scaled])
    rng = random.Random(5)
    would = 0
    for _ in range(40):  # the same draws as `log_of`
        a, b = rng.random(), rng.random()
        rng.random(), rng.random()
        would += max(a, b) >= 0.4
    assert found.coverage is not None
    assert found.coverage.after == would / 40
    gone = [page(scaled, {"a": 0.9}, outside=1.0)]
    assert list(what_if(gone, plain, [scaled]).left_out) == [
        "its P(correct) was scaled to nothing, so what it was is lost"
    ]


def test_what_cannot_be_known_is_left_out_and_said() -> None:
    other = Policy(threshold=0.9)
    rows = [*log_of(OLD, 5), page(other, {"a": 0.95}), page(OLD, {"a": 0.9}, forced="a")]
    found = what_if(rows, Policy(threshold=0.0), [OLD])
    assert (found.records, found.decisions, found.forced) == (7, 5, 1)
    assert [why for why in found.left_out if "not at hand" in why]
    needy = Policy(ood=OutOfDistribution(reading="never-read"))
    found = what_if(log_of(OLD, 3), needy, [OLD])
    assert found.decisions == 0
    assert [why for why in found.left_out if "never-read" in why]
    assert found.coverage is None


def test_bounds_hold_the_scores_of_the_moved() -> None:
    rows = [page(OLD, {"a": 0.9, "b": 0.1}, score=1.0) for _ in range(3)]
    rows += [page(OLD, {"a": 0.5, "b": 0.45}, score=0.0)]
    found = what_if(rows, changed_policy(OLD, ["a=5"]), [OLD])
    assert (found.measured.kept, found.measured.moved) == (3, 1)
    assert (found.measured.mean, found.measured.lowest, found.measured.highest) == (0.75, 0.75, 1.0)
    assert any("would have come from somebody else" in text for text in found.unknown)
    wild = [page(OLD, {"a": 0.9}, score=7.0)]
    assert what_if(wild, OLD).measured.lowest is None


def test_costs_tell_prices_from_choices() -> None:
    rows = [page(OLD, {"a": 0.9, "b": 0.8}) for _ in range(10)]
    found = what_if(rows, changed_policy(OLD, ["a=4"]), [OLD])
    assert found.cost is not None
    assert (found.cost.before, found.cost.after, found.repriced) == (1.0, 2.0, 4.0)
    assert [(m.source, m.target, m.count) for m in found.moves] == [("a", "b", 10)]


def test_a_conversation_counts_once() -> None:
    """Repeating each decision ten times within its conversation adds no certainty; as control, ten
    conversations do.
    """
    new = changed_policy(OLD, threshold=0.7)
    singles = log_of(OLD, 30, 2)
    repeated = [one for one in singles for _ in range(10)]
    apart = [_elsewhere(one) for one in repeated]
    widths = [_width(what_if(rows, new, [OLD])) for rows in (singles, repeated, apart)]
    assert widths[1] == pytest.approx(widths[0])
    assert widths[2] < 0.5 * widths[0]


def _elsewhere(one: Page) -> Page:
    return one.model_copy(update={"record": one.record.model_copy(update={"thread_id": new_id()})})


def _width(found: WhatIf) -> float:
    assert found.coverage is not None
    return found.coverage.high - found.coverage.low


def test_intervals_cover_the_truth() -> None:
    """P is uniform, so a threshold raised from 0.4 to 0.6 loses exactly 0.36 - 0.16 of the coverage."""
    new = changed_policy(OLD, threshold=0.6)
    held = 0
    for seed in range(60):
        one = what_if(log_of(OLD, 80, seed), new, [OLD], seed=seed).coverage
        assert one is not None
        held += one.low <= -(0.36 - 0.16) <= one.high
    assert held >= 52  # 57 expected; fewer has a chance below 1 in 100


def test_changed_policies() -> None:
    new = changed_policy(OLD, ["b = 0.5"], lam=0.2, threshold=0.1)
    assert (new.prices, new.lam, new.threshold) == ({"a": 1.0, "b": 0.5}, 0.2, 0.1)
    assert new.hash != OLD.hash == changed_policy(OLD).hash
    for wrong in (["b"], ["b=x"], ["b=-1"], ["b=nan"]):
        with pytest.raises(UsageError):
            changed_policy(OLD, wrong)


def test_it_loads_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, pilothouse.agents.whatif; print('torch' in sys.modules, 'numpy' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(root / ".typing")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
