"""Figures equal their plain definitions."""

from __future__ import annotations

import numpy as np
import pytest

from pilothouse.router.routing.curves import apgr_resampled, area_under_hull, auroc, draws, pair, sweep
from pilothouse.router.routing.perturb import PERTURBATIONS, variants


def two(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weak, strong = (rng.random(n) < 0.6).astype(float), (rng.random(n) < 0.8).astype(float)
    return strong - weak + rng.normal(0, 2, n), weak, strong


def plain_apgr(score: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> float:
    """Quality when the best k/10 of the rows by score go to the strong model, by counting."""
    order = np.argsort(-score)
    quality = []
    for k in range(11):
        up = order[: round(len(score) * k / 10)]
        mixed = weak.copy()
        mixed[up] = strong[up]
        quality.append(mixed.mean())
    area = np.trapezoid(quality, np.linspace(0, 1, 11))
    return float((area - weak.mean()) / (strong.mean() - weak.mean()))


@pytest.mark.parametrize("n", [1000, 997, 3001])
def test_apgr_equals_counting(n: int) -> None:
    score, weak, strong = two(n)
    assert pair(score, weak, strong).apgr == pytest.approx(
        plain_apgr(score, weak, strong), abs=4 / n**0.5 / 10
    )
    resampled = apgr_resampled(score, weak, strong, np.ones((1, n)))
    assert float(resampled[0]) == pytest.approx(plain_apgr(score, weak, strong), abs=0.01)


def test_a_coin_has_half_and_the_oracle_most() -> None:
    score, weak, strong = two(20_000)
    coin = pair(np.random.default_rng(1).random(20_000), weak, strong)
    assert coin.apgr == pytest.approx(0.5, abs=0.03)
    assert coin.cpt50 == pytest.approx(0.5, abs=0.04)
    assert pair(strong - weak, weak, strong).apgr > pair(score, weak, strong).apgr > 0.55
    assert np.isnan(pair(score, weak, weak).apgr)


def test_resampled_apgr_spreads_as_much_as_resampling_rows() -> None:
    score, weak, strong = two(500)
    fast = apgr_resampled(score, weak, strong, draws(500, 300, 0))
    rng = np.random.default_rng(0)
    plain = []
    for _ in range(300):
        i = rng.integers(0, 500, 500)
        plain.append(plain_apgr(score[i] + rng.normal(0, 1e-9, 500), weak[i], strong[i]))
    assert fast.std() == pytest.approx(np.std(plain), rel=0.2)
    assert fast.mean() == pytest.approx(np.mean(plain), abs=0.02)


def test_area_under_hull_by_hand() -> None:
    price = np.array([0.0, 1.0])
    assert area_under_hull(np.array([0.0, 1.0]), np.array([0.2, 0.8]), price) == pytest.approx(0.5)
    bulge = area_under_hull(np.array([0.0, 0.5, 1.0]), np.array([0.2, 0.8, 0.8]), price)
    assert bulge == pytest.approx(0.65, abs=1e-3)
    dent = area_under_hull(np.array([0.0, 0.5, 1.0]), np.array([0.2, 0.1, 0.8]), price)
    assert dent == pytest.approx(0.5, abs=1e-3)


def test_a_sweep_goes_from_the_best_to_the_cheapest() -> None:
    truth = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    found = sweep(truth, truth, np.array([1.0, 9.0]))
    assert found.quality[0] == 1.0
    assert found.cost[-1] == 1.0
    assert found.quality[-1] == 0.5


def test_auroc_counts_pairs() -> None:
    score, label = np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.0, 1.0, 0.0, 1.0])
    assert auroc(score, label) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert np.isnan(auroc(score, np.ones(4)))


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_perturbations_change_little_and_repeat(kind: str) -> None:
    text = "Which of the following is most likely to begin because of a large amount of rain?\nA. x\nB. y"
    one = variants(text, kind, 3)
    assert one == variants(text, kind, 3)
    assert all(other != text for other in one)
    assert all(abs(len(other) - len(text)) < 60 for other in one)
    assert all(isinstance(other, str) for other in variants("日本語?", kind, 2) + variants("", kind, 1))
