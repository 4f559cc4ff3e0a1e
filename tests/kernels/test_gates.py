"""Gates: probes decide per request, everything undecided stays shut."""

import pytest
import torch

from pilothouse.kernels.gates import Gates, decide
from pilothouse.kernels.steer import SteerTables, steer


def one_probe(width: int = 2) -> Gates:
    """Probe 1 opens where the first column is at least 1; three requests."""
    gates = Gates.empty(1, 3, width)
    gates.put(1, torch.eye(width)[0], -1.0)
    return gates


def flags(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_each_request_is_decided_by_its_flagged_token() -> None:
    gates = one_probe()
    x = torch.tensor([[5.0, 0.0], [0.5, 0.0], [0.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    slots = torch.tensor([1, 1, 2, 2, 3])
    scores = decide(gates, x, slots, flags(0, 1, 0, 1, 0))
    assert scores[:, 1].tolist() == [4.0, -0.5, -1.0, 1.0, 8.0]
    assert gates.open[:, 1].tolist() == [False, False, True, False]


def test_a_decision_lasts_until_the_slot_is_reset() -> None:
    gates = one_probe()
    decide(gates, torch.tensor([[3.0, 0.0]]), torch.tensor([2]), flags(1))
    decide(gates, torch.tensor([[0.0, 0.0]]), torch.tensor([2]), flags(0))
    assert bool(gates.open[2, 1])
    gates.reset(2)
    assert gates.open[2].tolist() == [True, False]


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_state_that_is_no_number_opens_nothing(bad: float) -> None:
    gates = one_probe()
    decide(gates, torch.tensor([[bad, 0.0]]), torch.tensor([1]), flags(1))
    assert not bool(gates.open[1, 1])


def test_slot_zero_and_unwritten_probes_stay_shut() -> None:
    gates = Gates.empty(2, 1, 2)
    gates.put(1, torch.ones(2), 10.0)
    decide(gates, torch.ones(3, 2), torch.tensor([0, 1, 1]), flags(1, 1, 0))
    assert not bool(gates.open[0].any())
    assert gates.open[1].tolist() == [True, True, False]


def test_layers_share_decisions_and_write_only_their_own() -> None:
    low = Gates.empty(2, 1, 2)
    high = low.beside(3)
    low.put(1, torch.ones(2), 0.0)
    high.put(2, torch.ones(3), 0.0)
    decide(low, torch.ones(1, 2), torch.tensor([1]), flags(1))
    decide(high, -torch.ones(1, 3), torch.tensor([1]), flags(1))
    assert low.open[1].tolist() == [True, True, False]
    assert high.open.data_ptr() == low.open.data_ptr()


@pytest.mark.parametrize("backend", ["plain", "fast"])
def test_a_gated_row_acts_for_open_requests_only(backend: str) -> None:
    gates = one_probe()
    decide(gates, torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([1, 2]), flags(1, 1))
    tables = SteerTables.empty(3, 2)
    tables.put(1, "add", torch.tensor([0.0, 1.0]), 4.0, gate=1)
    tables.put(2, "add", torch.tensor([1.0, 0.0]), 4.0)
    x, rows = torch.zeros(5, 2), torch.tensor([1, 1, 1, 2, 2])
    slots = torch.tensor([1, 2, 3, 2, 0])  # decided yes, decided no, undecided, ungated row, no request
    out = steer(x, tables, rows, gates, slots, backend=backend)  # type: ignore[arg-type]
    assert out.tolist() == [[0.0, 4.0], [0.0, 0.0], [0.0, 0.0], [4.0, 0.0], [0.0, 0.0]]


def test_misfits_are_refused() -> None:
    gates = one_probe()
    for what, said in (
        (lambda: gates.put(0, torch.ones(2), 0.0), "probe 0"),
        (lambda: gates.put(1, torch.ones(3), 0.0), "weight is float32"),
        (lambda: gates.put(1, torch.tensor([float("inf"), 0.0]), 0.0), "not finite"),
        (lambda: gates.reset(0), "slot 0"),
        (lambda: gates.reset(4), "slot 4"),
        (lambda: Gates.empty(1, 0, 2), "1 or more"),
        (lambda: decide(gates, torch.ones(1, 3), torch.tensor([1]), flags(1)), "width"),
        (lambda: decide(gates, torch.ones(1, 2), torch.tensor([1]), torch.tensor([1])), "decides is int64"),
    ):
        with pytest.raises(ValueError, match=said):
            what()
