"""A policy: fitted on planted truth, kept and read back, decided with at run time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted import Planted, planted, table_of

from pilothouse.router.routing.artifact import RoutingPolicy, choices, lam_for, make
from pilothouse.router.routing.comparing import STACK, Judge, contenders, verdict
from pilothouse.router.routing.fitting import Fitted, Options, calibration_errors, fit
from pilothouse.router.routing.judging import judged
from pilothouse.router.routing.report import Report
from pilothouse.router.routing.risk import chosen, with_risk
from pilothouse.router.routing.seen import Seen
from pilothouse.router.routing.trust import Familiar, fit_curves, platt
from pilothouse.store.errors import ArtifactError, UsageError

HEADS = ("length", "linear", "kernel")
PRICES = {"m0": 1.0, "m1": 2.0, "m2": 5.0}


@pytest.fixture(scope="module")
def train() -> Planted:
    return planted(rows=600, seed=1)


@pytest.fixture(scope="module")
def test() -> Planted:
    return planted(rows=500, seed=2)


@pytest.fixture(scope="module")
def fitted(train: Planted) -> Fitted:
    return fit(train.table, train.seen, Options(heads=HEADS))


@pytest.fixture(scope="module")
def policy(fitted: Fitted, train: Planted) -> RoutingPolicy:
    return make(fitted, train.table, {"kind": "none"}, PRICES)


def test_stack_comes_near_the_oracle_and_shuffled_labels_do_not(
    fitted: Fitted, train: Planted, test: Planted
) -> None:
    best = float(test.p.max(1).values.mean())
    single = float(test.p.mean(0).max())

    def quality(one: Fitted) -> float:
        who = one.p_correct(test.seen).argmax(1, keepdim=True)
        return float(test.p.gather(1, who).mean())

    found = quality(fitted)
    assert found > single + 0.8 * (best - single)
    assert max(calibration_errors(fitted.p_correct(test.seen), test.table.quality)) < 0.1
    order = torch.randperm(len(train.table), generator=torch.Generator().manual_seed(0))
    dealt = table_of(list(train.table.texts), train.table.quality[order], train.table.groups)
    control = quality(fit(dealt, train.seen, Options(heads=HEADS)))
    assert control < single + 0.3 * (best - single)


def test_a_folder_reads_back_and_decides_alike(policy: RoutingPolicy, test: Planted, tmp_path: Path) -> None:
    policy.save(tmp_path)
    again = RoutingPolicy.load(tmp_path)
    assert again.sha256 == policy.sha256
    assert torch.equal(again.fitted.p_correct(test.seen), policy.fitted.p_correct(test.seen))
    for i in range(5):
        one = test.seen.take([i])
        assert again.decide(one)[0] == policy.decide(one)[0]
    assert not [path for path in tmp_path.rglob("*") if path.suffix not in (".json", ".safetensors")]


@pytest.mark.parametrize("fault", ["format", "missing", "kind", "truncated"])
def test_a_damaged_folder_is_refused(policy: RoutingPolicy, tmp_path: Path, fault: str) -> None:
    policy.save(tmp_path)
    path = tmp_path / "router.json"
    head = json.loads(path.read_text())
    if fault == "format":
        head["format"] = 99
    elif fault == "kind":
        head["heads"][0]["kind"] = "pickle"
    elif fault == "missing":
        (tmp_path / "router.safetensors").unlink()
    else:
        body = (tmp_path / "router.safetensors").read_bytes()
        (tmp_path / "router.safetensors").write_bytes(body[: len(body) // 2])
    path.write_text(json.dumps(head))
    with pytest.raises(ArtifactError):
        RoutingPolicy.load(tmp_path)


def test_lam_budget_and_tolerance_need_no_refitting(policy: RoutingPolicy, test: Planted) -> None:
    p = policy.fitted.p_correct(test.seen)
    dear = policy.prices[choices(p, policy.prices, 0.0)].mean()
    cheap = policy.prices[choices(p, policy.prices, 10.0)].mean()
    assert float(cheap) == 1.0 < float(dear)
    inside = policy.with_budget(1.8)
    past = policy.fitted.out_of_fold
    assert float(policy.prices[choices(past, policy.prices, inside.policy.lam)].mean()) <= 1.8
    assert lam_for(past, policy.prices, 100.0) == 0.0
    with pytest.raises(UsageError, match="cheapest model costs 1"):
        policy.with_budget(0.5)
    for i in range(20):
        one = test.seen.take([i])
        decision, candidates = policy.decide(one, tolerance=0.2)
        best = max(c.p_correct for c in candidates)
        near = [c for c in candidates if c.p_correct >= best - 0.2]
        assert decision.chosen == min(near, key=lambda c: (c.cost, -c.p_correct)).specialist


def test_a_conversation_sticks_to_who_answered(policy: RoutingPolicy, test: Planted) -> None:
    free = [policy.decide(test.seen.take([i]))[0].chosen for i in range(40)]
    stuck = [policy.decide(test.seen.take([i]), previous="m1", stickiness=0.3)[0].chosen for i in range(40)]
    assert free.count("m1") < stuck.count("m1") < 40
    assert all(policy.decide(test.seen.take([i]), previous="m1")[0].chosen == free[i] for i in range(10))


def test_prices_of_models_that_are_not_there_are_refused(policy: RoutingPolicy) -> None:
    with pytest.raises(UsageError, match="no model 'm9'"):
        policy.with_prices({"m9": 1.0})
    with pytest.raises(UsageError, match="lam is -1"):
        policy.with_lam(-1)


def test_stated_risk_holds_on_new_prompts(policy: RoutingPolicy, test: Planted) -> None:
    careful = with_risk(policy, 0.15)
    p = careful.fitted.p_correct(test.seen)
    found = chosen(p, test.p, careful.prices, 0.0)
    answered = found.p >= careful.policy.threshold
    assert 0.05 < float(answered.float().mean()) < 1.0
    assert float(1 - found.quality[answered].mean()) <= 0.17
    with pytest.raises(UsageError, match="no threshold keeps risk"):
        with_risk(policy, 0.0001)
    asked = [careful.decide(test.seen.take([i]))[0] for i in range(60)]
    assert any(one.abstained for one in asked)
    assert any(not one.abstained for one in asked)


def test_strange_prompts_are_flagged(policy: RoutingPolicy, test: Planted) -> None:
    familiar = policy.fitted.familiar
    assert isinstance(familiar, Familiar)
    assert float(familiar.strange(test.seen).mean()) == pytest.approx(0.5, abs=0.12)
    assert test.seen.states is not None
    far = Seen(test.seen.texts[:1], test.seen.states[:1] * 8)
    assert policy.readings(far)[0].fired
    assert sum(policy.readings(test.seen.take([i]))[0].fired for i in range(100)) <= 6


def test_calibration_curves_come_true_and_never_fall() -> None:
    make_rows = torch.Generator().manual_seed(0)
    score = torch.rand(4000, 1, generator=make_rows)
    bent = torch.where(score < 0.5, 0.3 * score, 1.7 * score - 0.7)  # one logistic line cannot follow it
    label = (torch.rand(4000, 1, generator=make_rows) < bent).float()
    curves = fit_curves(score, label)
    slope, offset = platt(score[:, 0], label[:, 0])
    line = torch.sigmoid(slope * score + offset)
    assert calibration_errors(curves(score), bent)[0] < 0.02 < calibration_errors(line, bent)[0]
    grid = torch.linspace(-0.2, 1.2, 200)[:, None]
    for one in (curves, fit_curves(1 - score, label), fit_curves(score[:25], label[:25])):
        assert bool((one(grid).diff(dim=0) >= -1e-6).all())
    falling = fit_curves(1 - score, label)(score)
    assert float(falling.std()) < 1e-3
    assert float(falling.mean()) == pytest.approx(float(label.mean()), abs=0.01)


def test_few_labels_leave_a_curve_near_the_line_that_changes_nothing() -> None:
    few = fit_curves(torch.tensor([[0.2], [0.6], [0.8]]), torch.tensor([[0.0], [1.0], [1.0]]))
    grid = torch.tensor([[0.1], [0.5], [0.9]])
    assert float((few(grid) - grid).abs().max()) < 0.15


def test_report_says_when_a_simple_baseline_wins(train: Planted, tmp_path: Path) -> None:
    options = Options(heads=HEADS)
    found = contenders(train.table, train.seen, options)
    judge = Judge.of(train.table, PRICES, resamples=100)
    assert "beats the best simple baseline" in verdict(judge, found)
    weak = [one for one in found if one.name != STACK]
    coin = next(one for one in found if one.name == "random")
    lost = [*weak, type(coin)(STACK, coin.quality, coin.p)]
    assert "A simple baseline wins" in verdict(judge, lost)
    report = Report.of({"from": "<b>a test</b>"}, judge, found, found)
    paths = report.save(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;a test" in page
    figures = json.loads((tmp_path / "report.json").read_text())
    assert {row["name"] for row in figures["rows_left_out"]} == {one.name for one in found}
    assert len(paths) == 3


def test_judging_a_policy_on_new_rows(policy: RoutingPolicy, test: Planted) -> None:
    report, found = judged(policy, test.table, test.seen, {})
    assert found["answered"] == 1.0
    stack = next(one for one in report.inside if one.name == STACK)
    assert stack.of_oracle > 0.75


def test_sparse_and_disjoint_labels(train: Planted, test: Planted) -> None:
    sparse = train.table.quality.clone()
    keep = torch.rand(sparse.shape, generator=torch.Generator().manual_seed(5)) < 0.6
    sparse[~keep] = torch.nan
    alone = torch.full_like(sparse, torch.nan)
    rows = torch.arange(len(alone))
    alone[rows, rows % 3] = train.table.quality[rows, rows % 3]
    best, single = float(test.p.max(1).values.mean()), float(test.p.mean(0).max())
    for labels in (sparse, alone):
        keep_rows = torch.nonzero((~labels.isnan()).any(1))[:, 0]
        table = table_of([train.table.texts[i] for i in keep_rows], labels[keep_rows])
        one = fit(table, train.seen.take(keep_rows), Options(heads=("linear", "kernel")))
        who = one.p_correct(test.seen).argmax(1, keepdim=True)
        assert float(test.p.gather(1, who).mean()) > single + 0.5 * (best - single)


def test_too_little_to_learn_from_is_said(train: Planted) -> None:
    with pytest.raises(UsageError, match="at least 20"):
        fit(train.table.take(range(10)), train.seen.take(range(10)))
    with pytest.raises(UsageError, match="objective is 'profit'"):
        Options(objective="profit")
    with pytest.raises(UsageError, match="no head can be fitted"):
        fit(train.table, Seen(train.seen.texts), Options(heads=("linear",)))
    same = replace(train.table, quality=torch.ones_like(train.table.quality))
    with pytest.raises(UsageError, match="labels are 1"):
        fit(same, train.seen)
