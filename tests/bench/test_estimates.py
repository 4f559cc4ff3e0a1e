"""Estimates against values worked out by hand, and against other implementations."""

import numpy as np
import pytest

from pilothouse.bench import estimates
from pilothouse.router.probes import calibrate


def test_mean_and_its_interval() -> None:
    found = estimates.mean([1, 1, 0, 1], 0)
    assert (found.value, found.n) == (0.75, 4)
    assert found.low < 0.75 < found.high <= 1.0


def test_same_seed_same_interval_other_seed_other() -> None:
    values = np.random.default_rng(0).random(50)
    assert estimates.mean(values, 1) == estimates.mean(values, 1)
    assert estimates.mean(values, 1).low != estimates.mean(values, 2).low


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """200 samples of 80 coins: nominal 95 %, three standard errors of slack."""
    coins = np.random.default_rng(7).random((200, 80)) < 0.3
    inside = [(e := estimates.mean(row, 0)).low <= 0.3 <= e.high for row in coins]
    assert 0.89 <= np.mean(inside) <= 0.99


def test_paired_difference_is_narrower_than_an_unpaired_one() -> None:
    base = np.random.default_rng(1).random(200) < 0.5
    better = base.copy()
    better[np.flatnonzero(~base)[:20]] = True
    paired = estimates.difference(better, base, 0)
    assert paired.value == pytest.approx(0.1)
    assert paired.low > 0
    alone = estimates.mean(better, 0)
    assert paired.high - paired.low < alone.high - alone.low


def test_pairs_must_be_on_the_same_rows() -> None:
    with pytest.raises(ValueError, match="3 and 2 rows cannot be paired"):
        estimates.difference([1, 0, 1], [1, 0], 0)
    with pytest.raises(ValueError, match="no rows"):
        estimates.mean([], 0)


def test_ratio_of_means() -> None:
    assert estimates.ratio([1, 0, 1, 0], [1, 1, 1, 0], 0).value == pytest.approx(2 / 3)


def test_medians() -> None:
    assert estimates.median([5.0, 1.0, 3.0], 0).value == 3.0
    assert estimates.median([4.0, 1.0, 3.0, 2.0], 0).value == 2.0
    assert estimates.median_ratio([3.0, 2.0, 10.0], [1.5, 1.0, 2.0], 0).value == 2.0


@pytest.mark.parametrize(
    ("score", "positive", "wanted"),
    [
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([5, 5, 5, 5], [0, 1, 0, 1], 0.5),
        ([1, 2, 2, 3], [0, 0, 1, 1], 0.875),
    ],
)
def test_auroc_by_hand(score: list[float], positive: list[int], wanted: float) -> None:
    assert estimates.auroc(score, positive, 0).value == pytest.approx(wanted)


def test_auroc_and_ece_agree_with_the_router_s() -> None:
    generator = np.random.default_rng(3)
    p = generator.random(300).round(2)
    y = (generator.random(300) < p).astype(float)
    found = estimates.auroc(p, y, 0)
    assert found.value == pytest.approx(calibrate.auroc(p.tolist(), y.tolist()))
    assert found.low < found.value < found.high
    p = generator.random(300)  # not rounded: a value on the edge of a bin may fall either way
    assert estimates.ece(p, y, 0).value == pytest.approx(calibrate.ece(p.tolist(), y.tolist()))


def test_ece_by_hand() -> None:
    """Two bins: |0.9 - 0.5| on half of the rows, |0.1 - 0| on the other half."""
    assert estimates.ece([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0], 0).value == pytest.approx(0.25)


def test_auroc_skips_resamples_of_one_class() -> None:
    found = estimates.auroc([0.1, 0.9], [0, 1], 0)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


def test_share_among_counts_only_the_chosen() -> None:
    found = estimates.share_among([1, 0, 1, 1], [1, 1, 0, 0], 0)
    assert (found.value, found.n) == (0.5, 2)


def test_no_share_of_nothing() -> None:
    found = estimates.share_among([1, 0], [0, 0], 0)
    assert found.value != found.value
