"""The abstention threshold keeps its promise on simulated draws, and the binomial arithmetic is right."""

import math
import random

import pytest
from scipy.stats import beta, binom

from pilothouse.router.policy import calibrate_threshold
from pilothouse.router.threshold import binomial_cdf, upper_bound
from pilothouse.store.errors import UsageError


@pytest.mark.parametrize(
    ("k", "n", "p"),
    [(0, 10, 0.1), (3, 10, 0.5), (9, 10, 0.2), (10, 10, 0.3), (40, 900, 0.05), (7, 5000, 0.001)],
)
def test_binomial_agrees_with_another_implementation(k: int, n: int, p: float) -> None:
    assert binomial_cdf(k, n, p) == pytest.approx(float(binom.cdf(k, n, p)), rel=1e-9)


@pytest.mark.parametrize(("errors", "n"), [(0, 30), (1, 1), (5, 100), (60, 100), (200, 4000)])
def test_bound_is_clopper_and_pearsons(errors: int, n: int) -> None:
    wanted = 1.0 if errors == n else float(beta.ppf(0.9, errors + 1, n - errors))
    assert upper_bound(errors, n, 0.1) == pytest.approx(wanted, abs=1e-9)


def sample(count: int, rng: random.Random, shift: float = 0.0) -> tuple[list[float], list[int]]:
    """Prompts with uniform P(correct) p; the answer is right with probability p - shift."""
    p = [rng.random() for _ in range(count)]
    return p, [int(rng.random() < max(one - shift, 0.0)) for one in p]


def true_risk(threshold: float, shift: float = 0.0) -> float:
    """Share of wrong answers among p uniform on [threshold, 1] (shift below threshold)."""
    return 1 - (1 + threshold) / 2 + shift


@pytest.mark.parametrize(("shift", "risk"), [(0.0, 0.1), (0.05, 0.2), (0.0, 0.3)])
def test_promised_risk_is_kept(shift: float, risk: float) -> None:
    """Over 200 calibration samples the true risk exceeds the promise in at most 10 % (and noise) of them."""
    rng = random.Random(0)
    broken = refused = 0
    for _ in range(200):
        try:
            threshold = calibrate_threshold(*sample(3000, rng, shift), risk)
        except UsageError:  # promising nothing breaks no promise, but must stay rare
            refused += 1
            continue
        broken += true_risk(threshold, shift) > risk + 1e-9
    assert refused <= 20
    assert broken <= 200 * 0.1 + 3 * math.sqrt(200 * 0.1 * 0.9)


def test_coverage_is_not_given_away() -> None:
    """With many prompts the threshold comes close to the ideal one, 1 - 2 risk for calibrated p."""
    threshold = calibrate_threshold(*sample(20_000, random.Random(1)), 0.1)
    assert 0.80 <= threshold <= 0.84


def test_perfect_specialists_answer_everything() -> None:
    assert calibrate_threshold([i / 100 for i in range(100)] * 5, [1] * 500, 0.05) == 0.0


def test_stricter_risk_answers_less() -> None:
    p, y = sample(4000, random.Random(2))
    thresholds = [calibrate_threshold(p, y, risk) for risk in (0.3, 0.2, 0.1)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]


def test_ranking_by_chance_gets_no_threshold() -> None:
    """The control: where P(correct) says nothing, no threshold can promise a risk below the base rate."""
    rng = random.Random(3)
    p = [rng.random() for _ in range(2000)]
    y = [int(rng.random() < 0.6) for _ in p]
    with pytest.raises(UsageError, match=r"no threshold keeps risk 0\.1"):
        calibrate_threshold(p, y, 0.1)


@pytest.mark.parametrize(
    ("p", "y", "risk", "said"),
    [
        ([], [], 0.1, "0 probabilities"),
        ([0.5], [1, 1], 0.1, "1 probabilities and 2"),
        ([1.5], [1], 0.1, "1.5"),
        ([0.5], [0.5], 0.1, "0.5"),
        ([0.5], [1], 0.0, "risk is 0.0"),
        ([0.5], [1], 1.0, "risk is 1.0"),
        ([0.99] * 5, [1] * 5, 0.05, "more prompts"),
        ([float("nan")], [1], 0.1, "nan"),
    ],
)
def test_bad_input_is_refused(p: list[float], y: list[float], risk: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        calibrate_threshold(p, y, risk)
