"""Explicit requests work or fail with a reason; `auto` never fails."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pilothouse.kernels import dispatch
from pilothouse.kernels.dispatch import choose

KERNELS = Path(__file__).resolve().parents[2] / "kernels"


def test_auto_takes_the_fast_path_on_a_cpu() -> None:
    assert choose("auto", torch.ones(1)) == "fast"


@pytest.mark.parametrize("backend", ["plain", "fast"])
def test_a_request_is_honoured(backend: Any) -> None:
    assert choose(backend, torch.ones(1)) == backend


def test_auto_avoids_data_dependent_shapes_while_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert choose("auto", torch.ones(1), traceable=False) == "plain"
    assert choose("auto", torch.ones(1)) == "fast"


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="'cuda' is unknown; it is one of auto, plain"):
        choose("cuda", torch.ones(1))  # type: ignore[arg-type]


def test_two_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="lie on cpu, meta"):
        choose("auto", torch.ones(1), torch.ones(1, device="meta"))


def test_triton_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(dispatch, "has_triton", lambda: True)
    with pytest.raises(ValueError, match="lie on cpu"):
        choose("triton", torch.ones(1))


def test_absent_triton_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "has_triton", lambda: False)
    with pytest.raises(ValueError, match="needs the package triton"):
        choose("triton", torch.ones(1))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.ones(1, dtype=torch.float64), "float64"),
        (torch.ones(1, requires_grad=True), "no gradient"),
    ],
)
def test_triton_refuses_what_it_would_get_wrong(
    monkeypatch: pytest.MonkeyPatch, x: torch.Tensor, said: str
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(dispatch, "has_triton", lambda: True)
    with pytest.raises(ValueError, match=said):
        choose("triton", x)


def test_triton_is_imported_by_its_own_modules_only() -> None:
    """Everything else must import where Triton is not installed."""
    sources = [path for path in KERNELS.glob("*.py") if not path.stem.endswith("_triton")]
    assert len(sources) > 5
    for path in sources:
        for line in path.read_text().splitlines():
            assert not re.match(r"(from|import)\b.*triton", line), f"{path.name}: {line}"
