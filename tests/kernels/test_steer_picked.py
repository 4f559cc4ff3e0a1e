"""Steering picked before the pass against the plain twins, which look everything up in it."""

import pytest
import torch
from steering_tables import bits
from steering_tables import filled as every_kind

from pilothouse.kernels.gates import Gates, decide
from pilothouse.kernels.picked import decide_picked, pick, pick_gates, steer_picked_
from pilothouse.kernels.steer import SteerTables, steer

WIDTHS = (1, 7, 65, 1030)


def filled(width: int) -> SteerTables:
    """A row of every kind, and row 7, which adds another vector."""
    tables = every_kind(width)
    tables.put(7, "add", torch.randn(width, generator=torch.Generator().manual_seed(width + 1)), -2.0)
    return tables


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("apart", [False, True], ids=["one-stream", "residual-apart"])
@pytest.mark.parametrize("gated", [False, True], ids=["open", "gated"])
@pytest.mark.parametrize("kinds", [(1, 7), (1, 2, 3, 4, 5, 6)], ids=["adds", "every-kind"])
@pytest.mark.parametrize("every", [False, True], ids=["some", "all"])
def test_picked_is_plain(
    width: int, dtype: torch.dtype, apart: bool, gated: bool, kinds: tuple[int, ...], every: bool
) -> None:
    draw = torch.Generator().manual_seed(3)
    x, residual = (torch.randn(16, width, generator=draw).mul(2).to(dtype) for _ in range(2))
    x[3], x[7, 0] = -0.0, torch.nan
    at = torch.arange(16) if every else torch.tensor([9, 2, 3, 14, 5, 11])
    chosen = torch.tensor([kinds[i % len(kinds)] for i in range(len(at))])
    verdicts = torch.rand(len(at), generator=draw) < 0.5 if gated else torch.ones(len(at), dtype=torch.bool)
    rows = torch.zeros(16, dtype=torch.long)
    rows[at] = chosen * verdicts
    tables, stream = filled(width), x + residual if apart else None
    picked = pick(tables, slice(0, 16) if every else at, chosen, verdicts if gated else None)
    assert (picked.shift is None) == (6 in kinds)
    found, wanted = (
        steer_picked_(x.clone(), tables, picked, stream),
        steer(x, tables, rows, stream=stream, backend="plain"),
    )
    torch.testing.assert_close(
        found, wanted, equal_nan=True, rtol=1e-6 if dtype == torch.float32 else 0, atol=1e-5
    )
    still = (rows == 0) & ~x.isnan().any(-1)
    assert still.any() == (gated or not every)
    assert torch.equal(bits(found)[still], bits(x)[still])
    at_rest = torch.ones(16, dtype=torch.bool).index_fill(0, at, False)
    assert torch.equal(bits(found)[at_rest], bits(x)[at_rest])


@pytest.mark.parametrize("kind", range(1, 8))
@pytest.mark.parametrize("gated", [False, True], ids=["open", "gated"])
def test_one_row_for_a_slice_is_that_row_for_each(kind: int, gated: bool) -> None:
    draw = torch.Generator().manual_seed(4)
    x, residual = (torch.randn(16, 65, generator=draw).bfloat16() for _ in range(2))
    tables, verdicts = filled(65), torch.rand(9, generator=draw) < 0.5 if gated else None
    once = pick(tables, slice(4, 13), torch.tensor([kind]), verdicts)
    each = pick(tables, torch.arange(4, 13), torch.full((9,), kind), verdicts)
    found = steer_picked_(x.clone(), tables, once, x + residual)
    assert torch.equal(found, steer_picked_(x.clone(), tables, each, x + residual))
    assert not torch.equal(found, x)


@pytest.mark.parametrize("width", WIDTHS)
def test_picked_gates_are_plain(width: int) -> None:
    draw = torch.Generator().manual_seed(5)
    gates = Gates.empty(3, 16, width)
    for probe in (1, 2, 3):
        gates.put(probe, torch.randn(width, generator=draw), 0.3 * probe, 0.1)
    x = torch.randn(16, width, generator=draw)
    x[4] = torch.nan
    at, probes = torch.tensor([4, 1, 15, 7, 8]), torch.tensor([1, 3, 2, 1, 3])
    verdicts = torch.ones(5, dtype=torch.bool)
    decide_picked(x, pick_gates(gates, at, probes, verdicts))
    decide(gates, x, torch.arange(1, 17), torch.ones(16, dtype=torch.bool))
    assert verdicts.tolist() == gates.open[at + 1, probes].tolist()
    assert not verdicts[0]
    assert verdicts.any()
    whole = torch.ones(9, dtype=torch.bool)
    decide_picked(x, pick_gates(gates, slice(4, 13), torch.tensor([2]), whole))
    assert whole.tolist() == gates.open[5:14, 2].tolist()


def test_what_does_not_fit_is_refused() -> None:
    tables, rows = filled(7), torch.tensor([1, 2])
    three = torch.ones(3, dtype=torch.bool)
    for at, verdicts in (
        (torch.tensor([1]), None),
        (slice(0, 2), three),
        (slice(0, 3), three),
        (slice(0, 2), rows),
    ):
        with pytest.raises(ValueError, match="it must be"):
            pick(tables, at, rows, verdicts)
    with pytest.raises(ValueError, match="it must be"):
        pick_gates(Gates.empty(2, 4, 7), slice(0, 2), rows, three)
