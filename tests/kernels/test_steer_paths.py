"""Every path of steering: norm-aware forms, a residual carried apart, and Triton against the plain twin."""

import pytest
import torch
from steering_tables import bits, filled

from pilothouse.kernels.dispatch import Backend
from pilothouse.kernels.gates import Gates, decide
from pilothouse.kernels.steer import SteerTables, steer, steer_

WIDTHS = (1, 7, 65, 1030)
CPU: tuple[Backend, ...] = ("plain", "fast")


def tokens(width: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(16, width, generator=torch.Generator().manual_seed(3)) * 2
    return x.to(device), (torch.arange(16) % 8).to(device)


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("length", [0.1, 10.0])
def test_relative_adds_in_proportion_to_the_state(backend: Backend, length: float) -> None:
    tables = SteerTables.empty(2, 3)
    tables.put(1, "add", torch.tensor([0.0, 7.0, 0.0]), 0.5, relative=True)
    x = torch.tensor([[length, 0.0, 0.0]])
    out = steer(x, tables, torch.tensor([1]), backend=backend)
    torch.testing.assert_close(out, torch.tensor([[length, 0.5 * length, 0.0]]))


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.parametrize("width", WIDTHS)
def test_keep_norm_keeps_it(backend: Backend, width: int) -> None:
    x, _ = tokens(width)
    tables = filled(width)
    out = steer(x, tables, torch.full((16,), 6), backend=backend)
    torch.testing.assert_close(out.norm(dim=1), x.norm(dim=1))
    free = x + 4.0 * tables.vector[6]
    torch.testing.assert_close(out / out.norm(dim=1, keepdim=True), free / free.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("backend", CPU)
def test_keep_norm_of_nothing_is_nothing(backend: Backend) -> None:
    tables = SteerTables.empty(2, 3)
    tables.put(1, "project_out", torch.ones(3), 1.0, keep_norm=True)
    out = steer(torch.zeros(1, 3), tables, torch.tensor([1]), backend=backend)
    assert torch.equal(out, torch.zeros(1, 3))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fast_is_plain(width: int, dtype: torch.dtype) -> None:
    x, rows = tokens(width)
    tables, x = filled(width), x.to(dtype)
    plain = steer(x, tables, rows, backend="plain")
    torch.testing.assert_close(steer(x, tables, rows, backend="fast"), plain)
    for backend in CPU:
        mine = x.clone()
        assert steer_(mine, tables, rows, backend=backend) is mine
        torch.testing.assert_close(mine, plain)
        assert torch.equal(bits(mine[rows == 0]), bits(x[rows == 0]))


@pytest.mark.parametrize("backend", CPU)
def test_the_stream_is_what_readers_see(backend: Backend) -> None:
    """x + (steered stream - stream): the parts add up to the steered stream."""
    x, rows = tokens(65)
    rest, tables = torch.randn(16, 65), filled(65)
    out = steer(x, tables, rows, stream=x + rest, backend=backend)
    whole = steer(x + rest, tables, rows, backend=backend)
    torch.testing.assert_close(out + rest, whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(bits(out[rows == 0]), bits(x[rows == 0]))


def test_nothing_to_steer_is_not_touched() -> None:
    x, _ = tokens(7)
    x[3] = float("nan")
    for rows in (torch.zeros(16, dtype=torch.long), torch.zeros(0, dtype=torch.long)):
        state = x[: len(rows)]
        assert torch.equal(bits(steer(state, filled(7), rows)), bits(state))


def test_gradients_pass() -> None:
    x, rows = tokens(7)
    x.requires_grad_()
    plain, fast = (torch.autograd.grad(steer(x, filled(7), rows, backend=way).sum(), x)[0] for way in CPU)
    torch.testing.assert_close(plain, fast)


# -- Triton ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_triton_is_plain(triton_device: str, width: int) -> None:
    x, rows = tokens(width, triton_device)
    x[0, 0] = float("nan")
    x[8, 0] = -0.0
    tables = filled(width, triton_device)
    plain = steer(x, tables, rows, backend="plain")
    got = steer(x, tables, rows, backend="triton")
    torch.testing.assert_close(got, plain, atol=1e-4, rtol=1e-4, equal_nan=True)
    idle = rows % 7 == 0  # row 0, and row 7 that nobody filled
    assert torch.equal(bits(got[rows == 0]), bits(x[rows == 0]))
    torch.testing.assert_close(got[idle], x[idle], equal_nan=True)
    mine = x.clone()
    steer_(mine, tables, rows, backend="triton")
    assert torch.equal(bits(mine), bits(got))


def test_triton_keeps_idle_bits_in_bfloat16(triton_device: str) -> None:
    x, _ = tokens(65, triton_device)
    x = x.bfloat16()
    rows = torch.tensor([0, 1] * 8, device=triton_device)
    got = steer(x, filled(65, triton_device), rows, backend="triton")
    assert torch.equal(bits(got[::2]), bits(x[::2]))
    plain = steer(x, filled(65, triton_device), rows, backend="plain")
    torch.testing.assert_close(got.float(), plain.float(), atol=0.05, rtol=0.02)


def test_triton_reads_strided_states_and_the_stream(triton_device: str) -> None:
    x, rows = tokens(130, triton_device)
    x, rest, tables = x[:, ::2], torch.randn(16, 65, device=triton_device), filled(65, triton_device)
    plain, got = (steer(x, tables, rows, stream=x + rest, backend=way) for way in ("plain", "triton"))
    torch.testing.assert_close(got, plain, atol=1e-4, rtol=1e-4)


def test_triton_obeys_gates(triton_device: str) -> None:
    x, rows = tokens(65, triton_device)
    tables, gates = filled(65, triton_device), Gates.empty(2, 4, 65, triton_device)
    gates.put(1, (x[1] - x[2]).cpu(), 0.0)  # opens for the first request, not for the second
    tables.gate[1:] = torch.arange(7, device=triton_device) % 3
    slots = torch.arange(16, device=triton_device) % 5
    decide(gates, x, slots, torch.arange(16, device=triton_device) < 5)
    assert gates.open[1:3, 1].tolist() == [True, False]
    plain, got = (steer(x, tables, rows, gates, slots, backend=way) for way in ("plain", "triton"))
    torch.testing.assert_close(got, plain, atol=1e-4, rtol=1e-4)


# -- bad input ---------------------------------------------------------------------------------------------


def test_shared_memory_is_not_written_in_place() -> None:
    with pytest.raises(ValueError, match="written in place"):
        steer_(torch.zeros(1, 7).expand(3, 7), filled(7), torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"slots": torch.zeros(2, dtype=torch.long)}, "give both or neither"),
        ({"stream": torch.zeros(2, 8)}, r"stream is float32 \[2, 8\]"),
        ({"stream": torch.zeros(2, 7, dtype=torch.bfloat16)}, "types differ"),
        ({"gates": Gates.empty(0, 1, 7), "slots": torch.zeros(2)}, "slots is float32"),
    ],
)
def test_misfits_are_refused(given: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        steer(torch.zeros(2, 7), filled(7), torch.zeros(2, dtype=torch.long), **given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rows is float32"):
        steer(torch.zeros(2, 7), filled(7), torch.zeros(2))


@pytest.mark.parametrize(("relative", "gate"), [(True, 0), (False, -1)])
def test_forms_that_mean_nothing_are_refused(relative: bool, gate: int) -> None:
    with pytest.raises(ValueError, match="only add counts in lengths"):
        SteerTables.empty(2, 3).put(1, "scale", torch.ones(3), 1.0, relative=relative, gate=gate)


@pytest.mark.parametrize("width", [1, 7, 65])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("apart", [False, True])
def test_steady_rows_have_the_same_bits_alone_and_beside_others(
    width: int, dtype: torch.dtype, apart: bool
) -> None:
    made = torch.Generator().manual_seed(width)
    tables = SteerTables.empty(4, width)
    tables.put(1, "add", torch.randn(width, generator=made), -1.7)
    tables.put(2, "scale", torch.randn(width, generator=made), 3.0)
    tables.put(3, "add", torch.randn(width, generator=made), 0.3, keep_norm=True)
    x = torch.randn(9, width, generator=made).to(dtype)
    stream = x + torch.randn(9, width, generator=made).to(dtype) if apart else None
    rows = torch.tensor([1, 2, 0, 1, 3, 1, 0, 2, 1])
    together = steer(x, tables, rows, stream=stream)
    steady = torch.where(rows == 1, rows, 0)
    alone = steer(x, tables, steady, stream=stream)
    assert torch.equal(together[rows == 1], alone[rows == 1])
    plain = steer(x, tables, steady, stream=stream, backend="plain")
    assert torch.equal(plain, alone)
    assert torch.equal(alone[rows != 1], x[rows != 1])
