"""What is finite passes, also where its sum is not; anything else is named."""

import pytest
import torch

from pilothouse.router.checks import finite
from pilothouse.store.errors import UsageError


@pytest.mark.parametrize("x", [torch.full((7,), 3e38), torch.zeros(0), torch.tensor([1, 2])])
def test_finite_numbers_pass(x: torch.Tensor) -> None:
    assert finite("x", x) is x


@pytest.mark.parametrize("bad", [[float("nan"), 1.0], [float("inf"), -float("inf")], [-float("inf"), 0.0]])
def test_others_are_counted_and_placed(bad: list[float]) -> None:
    with pytest.raises(UsageError, match=r"x holds \d numbers that are not finite \(the first at \[0\]\)"):
        finite("x", torch.tensor(bad))
