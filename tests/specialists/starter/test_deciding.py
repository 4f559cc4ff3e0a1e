"""Thresholds: false alarms of a reading are bounded, and abstention keeps the stated risk."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pilothouse.router.policy import Policy
from pilothouse.router.probes.calibrate import Platt
from pilothouse.router.probes.probe import Kind, Probe, ProbeBank
from pilothouse.router.taps import Site
from pilothouse.specialists.starter import deciding, makers, pack
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.specialists.starter.work import Work
from pilothouse.store.errors import UsageError

SITE = Site((0,), ("last",))


def probe(name: str, kind: Kind = "reading", dimension: int = 0, width: int = 1) -> Probe:
    """A probe that reads one dimension: p = sigmoid(x[dimension])."""
    weight = torch.zeros(width)
    weight[dimension] = 1.0
    return Probe(name, kind, weight, 0.0, Platt(), 0.5, SITE, "f" * 64)


def fired(p: Tensor, threshold: float) -> float:
    return float((p >= threshold).double().mean())


# -- readings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_quiet_prompts_rarely_fire(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    quiet = torch.rand(1000, generator=generator, dtype=torch.float64) * 0.9
    loud = 0.92 + 0.07 * torch.rand(200, generator=generator, dtype=torch.float64)
    carries = torch.cat([torch.zeros(1000), torch.ones(200)]).bool()
    found = deciding.reading_threshold(probe("harm"), torch.cat([quiet, loud]), carries)
    assert 0.005 <= fired(quiet, found) <= 0.01  # used up, never exceeded
    assert fired(loud, found) == 1.0


def test_a_threshold_is_at_least_a_half_and_ties_do_not_pass_it() -> None:
    carries = torch.zeros(100).bool()
    assert deciding.reading_threshold(probe("harm"), torch.full((100,), 0.1), carries) == 0.5
    plateau = torch.full((100,), 0.999)
    assert fired(plateau.double(), deciding.reading_threshold(probe("harm"), plateau, carries)) == 0.0


def test_other_readings_keep_their_threshold() -> None:
    kept = replace(probe("outside"), threshold=0.37)
    assert deciding.reading_threshold(kept, torch.rand(50), torch.zeros(50).bool()) == 0.37


def planted_rows(count: int) -> list[Example]:
    harmful = [Example(f"bad {i}", "", "outside", "harmful", "bare", "open") for i in range(count)]
    return harmful + [Example(f"good {i}", "", "facts", "capital", "t", "exact") for i in range(9 * count)]


def test_thresholds_are_saved_with_the_bank_and_told(tmp_path: Path) -> None:
    work, rows = Work(tmp_path / "w", tmp_path), planted_rows(20)
    x = torch.full((200, 2), -3.0)
    x[:20, 0] = 4.0
    x[20:, 0] += torch.linspace(0, 5, 180)  # the quiet reach p = 0.88
    bank = ProbeBank([probe("harm", width=2), probe("facts", "correct", 1, 2)])
    found = deciding.set_reading_thresholds(work, bank, x, rows)
    harm = found.probe("harm", "reading")
    assert 0.8 < harm.threshold < 0.89
    assert ProbeBank.load(work.path("probes")).probe("harm", "reading").threshold == harm.threshold
    assert found.probe("facts").threshold == 0.5
    log = work.path("run.log").read_text()
    assert "fires on 100.0% of its prompts and 0.56% of the others" in log


# -- abstention --------------------------------------------------------------------------------------------


def honest(count: int, seed: int) -> tuple[list[float], list[int]]:
    """Calibrated probabilities with the outcomes they promise."""
    rng = random.Random(seed)
    p = [rng.random() for _ in range(count)]
    return p, [int(rng.random() < one) for one in p]


def risk_above(threshold: float) -> float:
    """The true share of wrong answers of `honest` numbers at or above a threshold."""
    return (1 - threshold) / 2


def test_the_stated_risk_holds_on_new_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "RISKS", (0.1,))
    found = [deciding.strictest(*honest(6000, seed)) for seed in range(20)]
    assert {risk for risk, _ in found} == {0.1}
    assert sum(risk_above(threshold) > 0.1 for _, threshold in found) <= 4  # 10 % may, 2 of 20
    assert all(threshold < 0.95 for _, threshold in found)  # and it is no excuse to answer nothing


def test_a_larger_risk_is_taken_where_a_small_one_answers_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "RISKS", (0.05, 0.2, 0.3))
    monkeypatch.setattr(pack, "COVERAGE", 0.5)
    p, right = honest(3000, 1)
    risk, threshold = deciding.strictest(p, right)
    assert risk == 0.2  # at 5 % wrong only 0.9 and above is answered: under a fifth of what is answerable
    answered = sum(one >= threshold and y for one, y in zip(p, right, strict=True))
    assert answered >= 0.5 * sum(right)


def test_no_risk_that_can_be_kept_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "RISKS", (0.05, 0.1))
    with pytest.raises(UsageError, match="no threshold keeps risk"):
        deciding.strictest([0.9] * 300, [0, 1] * 150)


def test_the_last_risk_is_taken_at_any_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "RISKS", (0.05,))
    monkeypatch.setattr(pack, "COVERAGE", 1.1)
    risk, threshold = deciding.strictest([0.99] * 500 + [0.2] * 500, [1] * 500 + [0] * 500)
    assert risk == 0.05
    assert 0.2 < threshold <= 0.99


def test_outcomes_of_the_favourite_decide(tmp_path: Path) -> None:
    """Each prompt counts with what its best specialist did; prompts that a refusal answers do not count."""
    work = Work(tmp_path / "w", tmp_path)
    asked = Example("Capital of France?", "Paris", "facts", "capital", "t", "exact")
    wrong, unknown = replace(asked, prompt="Of Peru?"), replace(asked, prompt="Of Mars?")
    greeting = replace(asked, prompt="hello", skill="help")
    bad = Example("bad", "", "outside", "harmful", "bare", "open")
    judged = [makers.Outcome("facts", e, "x", 0.0, e is asked) for e in (asked, wrong)]
    makers.write_outcomes(work.path("outcomes", "calibrate", "facts.jsonl"), judged)
    names: list[tuple[str, Kind]] = [("facts", "correct"), ("help", "correct"), ("harm", "reading")]
    bank = ProbeBank([probe(name, kind, i, 3) for i, (name, kind) in enumerate(names)])
    quiet = [3.0, -3.0, -9.0]
    x = torch.tensor([quiet, quiet, quiet, [-3.0, 3.0, -9.0], [3.0, -3.0, 9.0]])
    p, right = deciding.decided(Policy(), bank, x, [asked, wrong, unknown, greeting, bad], work)
    assert right == [1, 0, 0, 1]
    assert p == pytest.approx([torch.tensor(3.0).sigmoid().item()] * 4)
