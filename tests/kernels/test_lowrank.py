"""Products of low rank: each token its own, row 0 to the bit, every path the plain one."""

import pytest
import torch

from pilothouse.kernels.dispatch import Backend
from pilothouse.kernels.lowrank import LowRank, add_lowrank, add_lowrank_

CPU: tuple[Backend, ...] = ("plain", "fast")
# N, D, O, rank, rows: single, ragged, more rows than tokens, one row for all
SIZES = [(1, 1, 1, 1, 2), (9, 65, 33, 5, 4), (3, 7, 130, 2, 8), (40, 17, 19, 16, 2)]


def made(
    size: tuple[int, ...], device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor, LowRank, torch.Tensor]:
    """y, x, filled tables, and rows that visit row 0 and the others out of order."""
    n, d, o, rank, count = size
    generator = torch.Generator().manual_seed(sum(size))
    tables = LowRank.empty(count, rank, d, o)
    for row in range(1, count):
        q = 1 + row % rank
        shapes = ((q, d), (q, o), (q,))
        down, up, offset = (torch.randn(*shape, generator=generator) for shape in shapes)
        tables.put(row, down, up, 0.5 * row, offset)
    y, x = torch.randn(n, o, generator=generator), torch.randn(n, d, generator=generator)
    rows = torch.randint(0, count, (n,), generator=generator)
    moved = LowRank(*(one.to(device) for one in (tables.down, tables.up, tables.offset, tables.scale)))
    return y.to(device), x.to(device), moved, rows.to(device)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", CPU)
def test_each_token_gets_its_own_product(size: tuple[int, ...], backend: Backend) -> None:
    y, x, tables, rows = made(size)
    got = add_lowrank(y, x, tables, rows, backend)
    for n, row in enumerate(rows.tolist()):
        inner = tables.down[row] @ x[n] + tables.offset[row]
        wanted = y[n] + tables.scale[row] * (tables.up[row].T @ inner)
        torch.testing.assert_close(got[n], wanted, atol=1e-4, rtol=1e-4)
    mine = y.clone()
    assert add_lowrank_(mine, x, tables, rows, backend) is mine
    assert torch.equal(mine, got)


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_zero_keeps_its_bits(backend: Backend, dtype: torch.dtype) -> None:
    y, x, tables, rows = made(SIZES[1])
    y, x, rows = y.to(dtype), x.to(dtype), rows * torch.tensor([0, 1, 0] * 3)
    y[0, 0], y[0, 1], x[2, 0] = float("nan"), -0.0, float("inf")
    out = add_lowrank(y, x, tables, rows, backend)
    kind = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(out[rows == 0].view(kind), y[rows == 0].view(kind))
    assert not torch.equal(out[rows > 0], y[rows > 0])


@pytest.mark.parametrize("backend", CPU)
def test_representation_fine_tuning_is_one(backend: Backend) -> None:
    """ReFT, equation 2: h + R^T (W h + b - R h)."""
    generator = torch.Generator().manual_seed(5)
    r, w, h = (torch.randn(*shape, generator=generator) for shape in ((4, 33), (4, 33), (6, 33)))
    b = torch.randn(4, generator=generator)
    tables = LowRank.empty(2, 4, 33, 33)
    tables.put(1, w - r, r, 1.0, b)
    wanted = h + (h @ w.T + b - h @ r.T) @ r
    got = add_lowrank_(h.clone(), h, tables, torch.ones(6, dtype=torch.long), backend)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    state = h.clone()  # the stream steers itself: read before it is written
    torch.testing.assert_close(
        add_lowrank_(state, state, tables, torch.ones(6, dtype=torch.long), backend),
        wanted,
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_row_can_be_replaced_by_one_of_lower_rank() -> None:
    tables = LowRank.empty(2, 3, 2, 2)
    pointer = tables.down.data_ptr()
    tables.put(1, torch.ones(3, 2), torch.ones(3, 2))
    tables.put(1, torch.eye(2)[:1], torch.eye(2)[:1], 2.0)
    got = add_lowrank(torch.zeros(1, 2), torch.tensor([[5.0, 7.0]]), tables, torch.tensor([1]))
    assert got.tolist() == [[10.0, 0.0]]
    assert tables.down.data_ptr() == pointer
    tables.clear(1)
    assert not any(bool(one.any()) for one in (tables.down, tables.up, tables.scale))


@pytest.mark.parametrize("size", SIZES)
def test_triton_is_plain(triton_device: str, size: tuple[int, ...]) -> None:
    y, x, tables, rows = made(size, triton_device)
    y[0] = -0.0
    got = add_lowrank(y, x, tables, rows, "triton")
    torch.testing.assert_close(got, add_lowrank(y, x, tables, rows, "plain"), atol=1e-4, rtol=1e-4)
    idle = rows == 0
    assert torch.equal(got[idle].view(torch.int32), y[idle].view(torch.int32))


def test_triton_takes_strides_and_no_tokens(triton_device: str) -> None:
    y, x, tables, rows = made(SIZES[1], triton_device)
    wide = torch.zeros(9, 130, device=triton_device)
    wide[:, ::2] = x
    got = add_lowrank(y, wide[:, ::2], tables, rows, "triton")
    torch.testing.assert_close(got, add_lowrank(y, x, tables, rows, "plain"), atol=1e-4, rtol=1e-4)
    assert add_lowrank(y[:0], x[:0], tables, rows[:0], "triton").shape == (0, 33)


def test_misfits_are_refused() -> None:
    tables = LowRank.empty(3, 2, 4, 5)
    down, up = torch.ones(2, 4), torch.ones(2, 5)
    for given, said in (
        ((0, down, up), "row 0"),
        ((3, down, up), "row 3"),
        ((1, torch.ones(2, 5), up), r"down is float32 \[2, 5\]"),
        ((1, down, up.T), "transpose an adapter's B"),
        ((1, torch.ones(3, 4), torch.ones(3, 5)), "rank 3; these tables hold ranks 1 to 2"),
        ((1, down * float("inf"), up), "not finite"),
    ):
        with pytest.raises(ValueError, match=said):
            tables.put(*given)
    y, x, rows = torch.ones(2, 5), torch.ones(2, 4), torch.tensor([1, 2])
    for bad, said in (
        ((y, x[:, :3], rows), "flatten"),
        ((y[:1], x, rows), r"y is float32 \[1, 5\]"),
        ((y, x, rows[:1]), "one row a token"),
        ((y.bfloat16(), x, rows), "types differ"),
    ):
        with pytest.raises(ValueError, match=said):
            add_lowrank(bad[0], bad[1], tables, bad[2])
    with pytest.raises(ValueError, match="written in place"):
        add_lowrank_(torch.ones(1, 5).expand(2, 5), x, tables, rows)
    with pytest.raises(ValueError, match="rank 0"):
        LowRank.empty(2, 0, 4, 5)
