"""Logistic regression: planted directions, an independent solver, controls, awkward and bad input."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pilothouse.router.probes.calibrate import auroc
from pilothouse.router.probes.fit import choose_l2, fit_logistic
from pilothouse.store.errors import UsageError


def labelled(
    count: int, width: int, seed: int = 0, bias: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (x, y, planted unit direction): y is drawn from sigmoid(4 x . direction + bias)."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    x = torch.randn(count, width, generator=generator)
    y = torch.rand(count, generator=generator) < torch.sigmoid(4 * (x @ direction) + bias)
    return x, y, direction


def test_planted_direction_is_found() -> None:
    x, y, direction = labelled(4000, 65)
    weight, bias = fit_logistic(x, y)
    assert float(torch.cosine_similarity(weight, direction, dim=0)) > 0.97
    fresh, truth, _ = labelled(4000, 65)
    assert auroc(fresh @ weight + bias, truth) > 0.9


def test_shuffled_labels_find_nothing() -> None:
    """The control: with labels that mean nothing, unseen rows are ranked by chance."""
    x, y, _ = labelled(3000, 65)
    shuffled = y[torch.randperm(3000, generator=torch.Generator().manual_seed(3))]
    weight, bias = fit_logistic(x[:2000], shuffled[:2000])
    assert abs(auroc(x[2000:] @ weight + bias, shuffled[2000:]) - 0.5) < 0.06
    assert abs(auroc(x[2000:] @ weight + bias, y[2000:]) - 0.5) < 0.15


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_it_is_the_minimum_that_another_solver_finds(l2: float) -> None:
    x, y, _ = labelled(500, 20)
    x = x * torch.logspace(-2, 3, 20) + 5
    weight, bias = fit_logistic(x, y, l2)
    z = (x.double() - x.double().mean(0)) / x.double().std(0, unbiased=False)
    other = LogisticRegression(C=1 / (500 * l2), tol=1e-10, max_iter=10_000).fit(z.numpy(), y.numpy())
    theirs = z @ torch.tensor(other.coef_[0]) + float(other.intercept_[0])
    torch.testing.assert_close(x.double() @ weight.double() + bias, theirs, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("width", [1, 7, 65])
def test_awkward_widths(width: int) -> None:
    x, y, _ = labelled(400, width)
    weight, bias = fit_logistic(x, y)
    assert weight.shape == (width,)
    assert auroc(x @ weight + bias, y) > 0.85


def test_more_columns_than_rows() -> None:
    x, y, _ = labelled(60, 300)
    weight, _ = fit_logistic(x, y)
    assert bool(torch.isfinite(weight).all())


def test_constant_columns_get_no_weight() -> None:
    x, y, _ = labelled(400, 5)
    x[:, 2] = 1234.5
    weight, _ = fit_logistic(x, y, 1e-3)
    assert weight[2] == 0
    assert bool((weight[[0, 1, 3, 4]] != 0).all())


def test_rare_class_keeps_its_base_rate_unless_balanced() -> None:
    x, y, _ = labelled(6000, 10, bias=-6.0)
    share = float(y.float().mean())
    assert 0.01 < share < 0.15
    weight, bias = fit_logistic(x, y, 1e-3)
    assert float(torch.sigmoid(x @ weight + bias).mean()) == pytest.approx(share, abs=0.005)
    weight, bias = fit_logistic(x, y, 1e-3, balance=True)
    assert float(torch.sigmoid(x @ weight + bias).mean()) > 2 * share
    assert auroc(x @ weight + bias, y) > 0.95


def test_separable_data_stay_finite() -> None:
    x = torch.linspace(-1, 1, 50)[:, None]
    weight, bias = fit_logistic(x, x[:, 0] > 0)
    assert math.isfinite(float(weight))
    assert math.isfinite(bias)


def test_noise_asks_for_more_ridge_than_signal() -> None:
    x, _y, _ = labelled(300, 100)
    noise = torch.rand(300, generator=torch.Generator().manual_seed(9)) < 0.5
    assert choose_l2(x, noise) >= 10 * choose_l2(*labelled(3000, 100)[:2])


def test_groups_stay_together() -> None:
    """With a column that names the template, only grouped folds see that it is no help for new templates."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(40).repeat_interleave(10)
    answer = torch.rand(40, generator=generator) < 0.5
    y = answer[groups]
    x = torch.nn.functional.one_hot(groups, 40).float()
    assert choose_l2(x, y, groups=groups.tolist()) > choose_l2(x, y)


def test_same_seed_same_probe() -> None:
    x, y, _ = labelled(300, 12)
    first, again = fit_logistic(x, y, seed=4), fit_logistic(x, y, seed=4)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]


def test_one_example_of_a_class_is_enough_to_fit() -> None:
    y = torch.zeros(30)
    y[3] = 1
    weight, _ = fit_logistic(torch.randn(30, 4), y)
    assert bool(torch.isfinite(weight).all())


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.ones(3, 2), [1, 1, 1], "all 3 labels of y are 1"),
        (torch.ones(3, 2), [0, 0, 0], "are 0"),
        (torch.ones(3, 2), [0, 1], "2 labels for 3 rows"),
        (torch.ones(3, 2), [0, 1, 2], "holds 2"),
        (torch.ones(3), [0, 1, 1], r"\[3\]"),
        (torch.ones(0, 2), [], r"\[0, 2\]"),
        (torch.tensor([[1.0], [float("nan")]]), [0, 1], "not finite"),
        (torch.tensor([[1.0], [float("inf")]]), [0, 1], "not finite"),
        (torch.ones(2, 1), [0, float("nan")], "not finite"),
    ],
)
def test_bad_input_is_refused(x: torch.Tensor, y: list[float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fit_logistic(x, y)


def test_bad_options_are_refused() -> None:
    x, y, _ = labelled(20, 2)
    with pytest.raises(UsageError, match="l2 is 0"):
        fit_logistic(x, y, 0)
    with pytest.raises(UsageError, match="folds is 1"):
        fit_logistic(x, y, folds=1)
    with pytest.raises(UsageError, match="groups has 2"):
        fit_logistic(x, y, groups=[1, 2])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_soft_label_of_a_half_is_both_labels_at_half_the_weight(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 5, generator=generator)
    y = (x[:, 0] + 0.5 * torch.randn(60, generator=generator) > 0).int()
    soft = y.double()
    soft[:20] = 0.5
    weight, bias = fit_logistic(x, y, 0.1, targets=soft)
    twice = torch.cat([x, x])  # every row twice: once with each label where the label is soft
    both = torch.cat([torch.where(soft == 0.5, 1.0, soft), torch.where(soft == 0.5, 0.0, soft)])
    expected, offset = fit_logistic(twice, both, 0.1)
    assert torch.allclose(weight, expected, atol=1e-5)
    assert abs(bias - offset) < 1e-5


@pytest.mark.parametrize("targets", [torch.zeros(3), torch.full((4,), 1.5), torch.tensor([0.0, 1, -0.1, 0])])
def test_soft_labels_outside_their_range_are_refused(targets: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="targets has"):
        fit_logistic(torch.randn(4, 2), [0, 1, 0, 1], targets=targets)


def test_soft_labels_leave_the_ridge_to_be_chosen() -> None:
    x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).int()
    soft = torch.where(x[:, 1] > 1.5, torch.tensor(0.5), y.float())
    weight, _ = fit_logistic(x, y, targets=soft)
    assert weight[0] > 5 * weight[1:].abs().max()
