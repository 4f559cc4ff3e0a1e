"""Steering tables: each kind against its formula, untouched rows to the bit, bad input refused."""

import pytest
import torch

from pilothouse.kernels.steer import KINDS, SteerTables, gated, steer

WIDTHS = (1, 7, 65)


def filled(width: int) -> tuple[SteerTables, torch.Tensor]:
    """Tables with row 1 add, 2 project_out, 3 scale, 4 clamp_feature, and the four vectors."""
    generator = torch.Generator().manual_seed(width)
    vectors = torch.randn(4, width, generator=generator)
    tables = SteerTables.empty(5, width)
    tables.put(1, "add", vectors[0], 1.5)
    tables.put(2, "project_out", vectors[1], 1.0)
    tables.put(3, "scale", vectors[2], 3.0)
    reader = torch.randn(width, generator=generator)
    tables.put(4, "clamp_feature", vectors[3], 2.0, reader, 0.25, 0.5)
    return tables, vectors


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_zero_keeps_its_bits(width: int, dtype: torch.dtype) -> None:
    tables, _ = filled(width)
    x = torch.randn(9, width, dtype=dtype)
    x[0, 0] = float("nan")
    x[1, 0] = float("-inf")
    x[2, 0] = -0.0
    rows = torch.tensor([0, 0, 0, 1, 2, 3, 4, 0, 0])
    out = steer(x, tables, rows)
    idle = rows == 0
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(out[idle].view(bits), x[idle].view(bits))
    assert out.dtype == dtype


@pytest.mark.parametrize("width", WIDTHS)
def test_every_kind_follows_its_formula(width: int) -> None:
    tables, vectors = filled(width)
    x = torch.randn(4, width)
    out = steer(x, tables, torch.tensor([1, 2, 3, 4]))
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    measured = x[3] @ tables.reader[4] + 0.25
    active = measured if measured > 0.5 else torch.tensor(0.0)
    wanted = [
        x[0] + 1.5 * vectors[0],
        x[1] - (x[1] @ unit[1]) * unit[1],
        x[2] + 2.0 * (x[2] @ unit[2]) * unit[2],
        x[3] + (2.0 - active) * vectors[3],
    ]
    torch.testing.assert_close(out, torch.stack(wanted), atol=1e-5, rtol=1e-5)


def test_projected_out_direction_is_gone() -> None:
    tables, vectors = filled(65)
    out = steer(torch.randn(20, 65), tables, torch.full((20,), 2))
    assert float((out @ (vectors[1] / vectors[1].norm())).abs().max()) < 1e-5


def test_clamp_lifts_a_silent_feature_and_levels_an_active_one() -> None:
    tables = SteerTables.empty(2, 2)
    tables.put(1, "clamp_feature", torch.tensor([1.0, 0.0]), 4.0, torch.tensor([1.0, 0.0]), 0.0, 1.0)
    x = torch.tensor([[0.5, 9.0], [7.0, 9.0]])  # below its threshold: a = 0; above: a = 7
    out = steer(x, tables, torch.tensor([1, 1]))
    torch.testing.assert_close(out, torch.tensor([[4.5, 9.0], [4.0, 9.0]]))


def test_batch_equals_solo() -> None:
    tables, _ = filled(65)
    x, rows = torch.randn(12, 65), torch.arange(12) % 5
    alone = torch.cat([steer(x[i : i + 1], tables, rows[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(steer(x, tables, rows), alone)


def test_tables_change_in_place_and_clear() -> None:
    tables, _ = filled(7)
    pointer = tables.vector.data_ptr()
    tables.put(1, "add", torch.ones(7), 2.0)
    x = torch.zeros(1, 7)
    assert torch.equal(steer(x, tables, torch.tensor([1])), torch.full((1, 7), 2.0))
    tables.clear(1)
    assert torch.equal(steer(x, tables, torch.tensor([1])), x)
    assert tables.vector.data_ptr() == pointer


def test_row_zero_stays_zero_in_every_table() -> None:
    tables, _ = filled(7)
    assert not any(bool(t[0].any()) for t in (tables.vector, tables.reader, tables.coefficient, tables.kind))


def test_gate_opens_at_its_threshold() -> None:
    x = torch.tensor([[1.0], [2.0], [3.0]])
    rows = gated(torch.tensor([4, 4, 4]), x, torch.tensor([1.0]), bias=-1.0, threshold=1.0)
    assert rows.tolist() == [0, 4, 4]


@pytest.mark.parametrize(
    ("row", "kind", "vector", "said"),
    [
        (0, "add", torch.ones(3), "row 0"),
        (9, "add", torch.ones(3), "row 9"),
        (1, "push", torch.ones(3), "'push'"),
        (1, "add", torch.ones(4), r"\[4\]"),
        (1, "add", torch.zeros(3), "zero"),
        (1, "add", torch.tensor([1.0, float("nan"), 0.0]), "not finite"),
        (1, "clamp_feature", torch.ones(3), "encoder"),
    ],
)
def test_bad_rows_are_refused(row: int, kind: str, vector: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SteerTables.empty(2, 3).put(row, kind, vector, 1.0)


def test_bad_shapes_are_refused() -> None:
    tables, _ = filled(7)
    for x, rows in (
        (torch.ones(2, 8), torch.zeros(2)),
        (torch.ones(2, 7), torch.zeros(3)),
        (torch.ones(7), torch.zeros(7)),
    ):
        with pytest.raises(ValueError, match="flatten"):
            steer(x, tables, rows.long())
    with pytest.raises(ValueError, match="at least 1"):
        SteerTables.empty(0, 7)


def test_every_recorded_kind_is_computed() -> None:
    from typing import get_args

    from pilothouse.store.records import SteeringKind

    assert set(KINDS) == set(get_args(SteeringKind))
