"""Probes fitted together: planted classes are found, shuffled ones are not, odds are those of a softmax."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pilothouse.router.probes.fit import fit_logistic
from pilothouse.router.probes.joint import RIDGES, fit_joint, log_odds, log_odds_of
from pilothouse.store.errors import UsageError

CLASSES = 4  # three and nobody


def planted(rows: int, seed: int) -> tuple[Tensor, list[int]]:
    """Classes 0 and 1 are near each other and far from the others; class 3 is nobody's."""
    make = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[3.0, 0.6], [3.0, -0.6], [-3.0, 2.0], [-3.0, -2.0]])
    y = torch.randint(0, CLASSES, (rows,), generator=make)
    noise = torch.randn(rows, 10, generator=make)
    noise[:, :2] = noise[:, :2] * torch.tensor([1.0, 0.3]) + centres[y]
    return 5 + 2 * noise, y.tolist()


def test_log_odds_are_those_of_the_softmax_with_nobody() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = torch.softmax(torch.cat([logits, torch.zeros(6, 1, dtype=torch.float64)], 1), 1)[:, :3]
    torch.testing.assert_close(torch.sigmoid(log_odds(logits)), p)
    torch.testing.assert_close(log_odds(logits[2]), log_odds(logits)[2])
    sure = torch.tensor([800.0, -800.0], dtype=torch.float64)
    assert log_odds(sure).tolist() == [800.0, -1600.0]


def test_log_odds_of_one_prompt_are_those_of_many() -> None:
    draw = torch.Generator().manual_seed(1)
    rows = [s * torch.randn(n, dtype=torch.float64, generator=draw) for n in (1, 2, 8) for s in (0.1, 5, 400)]
    rows += [torch.tensor(one).double() for one in ([800.0, -800.0], [2000.0, 1200.0], [3.0, 3.0], [-900.0])]
    for row in rows:
        wanted = log_odds(row)
        torch.testing.assert_close(
            torch.tensor(log_odds_of(row.tolist()), dtype=torch.float64), wanted, rtol=1e-13, atol=1e-13
        )


def test_planted_classes_are_told_apart_and_their_chances_come_true() -> None:
    x, y = planted(900, 1)
    found = fit_joint(x, y, 3, list(range(900)))
    assert found.l2 in RIDGES
    fresh, true = planted(4000, 2)
    p = torch.sigmoid(log_odds(found.logits(fresh)))
    whole = torch.cat([p, 1 - p.sum(1, keepdim=True)], 1)
    truth = torch.tensor(true)
    assert float((whole.argmax(1) == truth).float().mean()) > 0.95
    for one in range(CLASSES):
        assert float(whole[:, one].mean()) == pytest.approx(float((truth == one).float().mean()), abs=0.02)


def test_no_class_is_found_in_shuffled_labels() -> None:
    x, y = planted(900, 1)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(3)).tolist()
    found = fit_joint(x, [y[i] for i in order], 3, list(range(900)))
    fresh, true = planted(4000, 2)
    best = log_odds(found.logits(fresh)).argmax(1)
    inside = torch.tensor(true) < 3
    assert float((best == torch.tensor(true))[inside].float().mean()) < 0.45


def test_with_one_class_it_is_the_logistic_regression() -> None:
    x, y = planted(500, 4)
    member = [int(one == 3) for one in y]
    joint = fit_joint(x, member, 1, list(range(500)), l2=0.01)
    # two weight vectors share the penalty, so that of their difference is half as large
    weight, bias = fit_logistic(x, [1 - one for one in member], l2=0.005)
    torch.testing.assert_close(joint.weight[0], weight, rtol=1e-2, atol=1e-3)
    assert float(joint.bias[0]) == pytest.approx(bias, rel=1e-2)


def test_classes_without_rows_and_groups_that_do_not_fit_are_refused() -> None:
    x, y = planted(40, 5)
    with pytest.raises(UsageError, match="each of 0 to 4 needs a row"):
        fit_joint(x, y, 4, list(range(40)))
    with pytest.raises(UsageError, match="one a row"):
        fit_joint(x, y, 3, [0, 1])
