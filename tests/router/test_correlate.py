"""Feature selection by correlation: equal to numpy, planted cause found, shuffled outcomes find nothing."""

import numpy as np
import pytest
import torch
from tiny import planted

from pilothouse.router.features.correlate import Correlation
from pilothouse.store.errors import UsageError


def outcomes(codes: torch.Tensor, cause: int, seed: int = 0) -> torch.Tensor:
    """Right nine times in ten where the cause is active, three times in ten elsewhere."""
    draw = torch.rand(len(codes), generator=torch.Generator().manual_seed(seed))
    return draw < torch.where(codes[:, cause] > 0, 0.9, 0.3)


def test_streamed_equals_numpy() -> None:
    _, codes, _ = planted(1000, 16, 40, 3)
    codes[:, 7] = 2.5  # constant: 0, not NaN
    y = outcomes(codes, 3)
    found = Correlation(40)
    for part, target in zip(codes.split(130), y.split(130), strict=True):
        found.add(part, target)
    r = found.coefficients()
    for i in range(40):
        wanted = 0.0 if i == 7 else np.corrcoef(codes[:, i].numpy(), y.numpy())[0, 1]
        assert float(r[i]) == pytest.approx(wanted, abs=1e-6)


def test_planted_cause_is_chosen_with_its_mean_activation() -> None:
    _, codes, _ = planted(4000, 16, 40, 3)
    y = outcomes(codes, 3)
    found = Correlation(40)
    found.add(codes, y)
    (best,) = found.best()
    assert best.feature == 3
    assert best.coefficient == pytest.approx(float(codes[y, 3].mean()))
    control = Correlation(40)
    control.add(codes, y[torch.randperm(4000, generator=torch.Generator().manual_seed(1))])
    assert control.best()[0].correlation < best.correlation / 3
    assert all(choice.correlation > 0 for choice in control.best(40))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.ones(2, 4), [1, 1], "all 2 outcomes are 1"),
        (torch.ones(2, 3), [1, 0], "shape"),
        (torch.ones(2, 4), [1], "1 labels for 2"),
        (torch.full((2, 4), float("nan")), [1, 0], "not finite"),
    ],
)
def test_bad_input_is_refused(x: torch.Tensor, y: list[int], said: str) -> None:
    found = Correlation(4)
    with pytest.raises(UsageError, match=said):  # noqa: PT012
        found.add(x, y)
        found.coefficients()
