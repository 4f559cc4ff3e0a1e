"""Calibration repairs a known distortion; measures agree with hand computation."""

import pytest
import torch

from pilothouse.router.probes.calibrate import (
    Calibration,
    Capped,
    Isotonic,
    Platt,
    auroc,
    brier,
    calibration_from_json,
    ece,
    fit_calibration,
    log_loss,
    reliability,
)
from pilothouse.store.errors import UsageError


def miscalibrated(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores whose sigmoid is overconfident by a factor of 5 and shifted: P(y=1) = sigmoid(score/5 - 0.4)."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(count, generator=generator, dtype=torch.float64) * 8
    return score, torch.rand(count, generator=generator) < torch.sigmoid(score / 5 - 0.4)


@pytest.mark.parametrize("kind", [Platt, Isotonic])
def test_known_distortion_is_repaired(kind: type[Platt] | type[Isotonic]) -> None:
    calibration = kind.fit(*miscalibrated(6000, 0))
    score, y = miscalibrated(6000, 1)
    assert ece(torch.sigmoid(score), y) > 0.15
    assert ece(calibration(score), y) < 0.03
    assert brier(calibration(score), y) < brier(torch.sigmoid(score), y)


def test_platt_finds_the_planted_slope() -> None:
    calibration = Platt.fit(*miscalibrated(20000, 0))
    assert calibration.a == pytest.approx(0.2, abs=0.01)
    assert calibration.b == pytest.approx(-0.4, abs=0.06)


def test_isotonic_repairs_what_platt_cannot() -> None:
    """A step: no sigmoid is one."""
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(8000, generator=generator, dtype=torch.float64)
    y = torch.rand(8000, generator=generator) < torch.where(score < 0.8, 0.4, 0.95)
    half = slice(0, 4000), slice(4000, 8000)
    losses = {
        k: log_loss(k.fit(score[half[0]], y[half[0]])(score[half[1]]), y[half[1]]) for k in (Platt, Isotonic)
    }
    assert losses[Isotonic] < losses[Platt] - 0.005
    assert isinstance(fit_calibration(score, y), Isotonic)


def test_auto_prefers_platt_where_it_is_the_truth_or_data_are_few() -> None:
    assert isinstance(fit_calibration(*miscalibrated(3000, 0)), Platt)
    assert isinstance(fit_calibration(*miscalibrated(100, 0)), Platt)


@pytest.mark.parametrize("kind", [Platt, Isotonic, Capped])
def test_shuffled_labels_calibrate_to_the_base_rate(kind: type[Calibration]) -> None:
    score, y = miscalibrated(4000, 0)
    shuffled = y[torch.randperm(4000, generator=torch.Generator().manual_seed(1))]
    p = kind.fit(score, shuffled)(score)
    assert float((p - shuffled.double().mean()).abs().mean()) < 0.05


@pytest.mark.parametrize("kind", [Platt, Isotonic, Capped])
def test_one_equals_many_and_survives_json(kind: type[Calibration]) -> None:
    score, y = miscalibrated(500, 0)
    calibration = kind.fit(score, y)
    again = calibration_from_json(calibration.to_json())
    assert again == calibration
    probe = torch.cat([score[:50], torch.tensor([-1e4, 1e4], dtype=torch.float64)])
    torch.testing.assert_close(
        torch.tensor([again.one(s) for s in probe.tolist()], dtype=torch.float64), calibration(probe)
    )


def test_isotonic_rises_is_tied_and_never_certain() -> None:
    score = torch.tensor([0.0, 0, 1, 1, 2, 2, 3, 3])
    calibration = Isotonic.fit(score, [0, 0, 1, 0, 0, 1, 1, 1])
    p = calibration(torch.linspace(-1, 4, 101))
    assert bool((p.diff() >= 0).all())
    assert float(p[0]) > 0
    assert float(p[-1]) < 1
    # 0,0 pooled with nothing below it: (0 + 0.5) / (2 + 1), the base rate being one half
    assert calibration.one(0.0) == pytest.approx(1 / 6)
    # 1,0 | 0,1 share one level: (2 + 0.5) / (4 + 1)
    assert calibration.one(1.5) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [Platt, Capped])
def test_separable_scores_stay_uncertain(kind: type[Platt] | type[Capped]) -> None:
    calibration = kind.fit([-2.0, -1, 1, 2], [0, 0, 1, 1])
    assert 0.5 < calibration.one(2.0) < 1.0


def test_a_planted_cap_is_found_where_platt_cannot() -> None:
    make = torch.Generator().manual_seed(4)
    score = 4 * torch.randn(6000, generator=make, dtype=torch.float64)
    true = 0.6 * torch.sigmoid(1.5 * score - 1.0)
    y = (torch.rand(6000, generator=make, dtype=torch.float64) < true).long()
    capped, platt = Capped.fit(score, y), fit_calibration(score, y, "platt")
    assert capped.top == pytest.approx(0.6, abs=0.03)
    assert float((capped(score) - true).abs().mean()) < 0.015
    assert float((platt(score) - true).abs().mean()) > 0.05
    assert fit_calibration(score, y, "capped") == capped
    with pytest.raises(UsageError, match="top 0"):
        Capped(1.0, 0.0, 0.0)


# -- measures ----------------------------------------------------------------------------------------------


def test_ece_by_hand() -> None:
    p = [0.1, 0.2, 0.9, 0.95, 0.5]
    y = [0, 1, 1, 1, 0]
    # two bins: (0, 0.5] holds 0.1 0.2 0.5 with accuracy 1/3 and mean 0.8/3; (0.5, 1] accuracy 1, mean 0.925
    assert ece(p, y, bins=2) == pytest.approx(3 / 5 * (1 / 3 - 0.8 / 3) + 2 / 5 * 0.075)
    assert [one.size for one in reliability(p, y, bins=2)] == [3, 2]


def test_ece_knows_the_ends() -> None:
    assert ece([0.0, 1.0], [0, 1]) == 0.0
    assert ece([1.0, 0.0], [0, 1]) == 1.0


def test_auroc_by_pairs_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(0, 6, (60,), generator=generator).double()
    y = torch.rand(60, generator=generator) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[y].tolist() for b in score[~y].tolist()]
    assert auroc(score, y) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc(-score, y) == pytest.approx(1 - auroc(score, y))
    assert auroc([1, 1], [0, 1]) == 0.5


def test_brier_and_log_loss_by_hand() -> None:
    assert brier([0.25, 1.0], [1, 1]) == pytest.approx(0.28125)
    assert log_loss([0.5, 0.5], [1, 0]) == pytest.approx(0.693147, abs=1e-6)
    assert log_loss([0.0], [1]) < 30


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ece([1.5], [1]), "1.5"),
        (lambda: ece([0.5], [1], bins=0), "bins is 0"),
        (lambda: brier([0.5, 0.5], [1]), "1 labels for 2"),
        (lambda: auroc([0.1, 0.2], [1, 1]), "both classes"),
        (lambda: auroc([float("nan"), 0.2], [1, 0]), "not finite"),
        (lambda: Platt.fit([1.0, 2.0], [1, 1]), "both classes"),
        (lambda: Isotonic.fit([1.0, float("inf")], [1, 0]), "not finite"),
        (lambda: Isotonic((0.0, 1.0), (0.9, 0.1)), "rising"),
        (lambda: calibration_from_json({"kind": "beta"}), "'beta'"),
    ],
)
def test_bad_input_is_refused(call: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()  # type: ignore[operator]
