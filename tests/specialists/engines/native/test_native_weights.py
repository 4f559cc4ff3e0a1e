"""A folder's weights as the native engine reads them: one at a time, and the same as all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pilothouse.kernels.quant import dequantize, quantize
from pilothouse.specialists.engines.native import library as lib
from pilothouse.specialists.engines.native import weights
from pilothouse.specialists.engines.native.weights import Stored, StoredFolder
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.weights import WeightsError, read_model_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = torch.Generator().manual_seed(0)
    made = {
        "a.weight": torch.randn(7, 70, generator=draw).bfloat16(),
        "b.weight": torch.randn(5, 64, generator=draw),
        "b.bias": torch.randn(5, generator=draw).bfloat16(),
    }
    (tmp_path / "plain").mkdir()
    save_file(made, tmp_path / "plain" / "model.safetensors")
    return tmp_path / "plain"


@pytest.mark.parametrize("piece", [1, 150, 1 << 20])
def test_rounding_in_pieces_is_rounding_at_once(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(weights, "PIECE", piece)
    weight = torch.randn(9, 70, generator=torch.Generator().manual_seed(1))
    whole, found = quantize(weight, 4, 32), weights.stored(weight, 4, 32)
    assert found.scales is not None
    assert torch.equal(found.data, whole.codes)
    assert torch.equal(found.scales, whole.scales)


def test_each_weight_is_as_stored_or_rounded(folder: Path) -> None:
    made = load_file(folder / "model.safetensors")
    found = StoredFolder(folder, lambda name: 8 if name.startswith("b") else None, 32)
    assert set(found) == set(made)
    a, b, bias = found["a.weight"], found["b.weight"], found["b.bias"]
    assert isinstance(a, Stored)
    assert isinstance(b, Stored)
    assert isinstance(bias, torch.Tensor)
    assert a.kind == lib.BF16
    assert torch.equal(a.data, made["a.weight"])
    assert b.kind == 8
    assert torch.equal(b.dense(), dequantize(quantize(made["b.weight"], 8, 32)))
    assert torch.equal(bias, made["b.bias"].float())
    assert found.get("c.weight") is None


def test_codes_stay_unless_their_groups_or_bits_are_others(folder: Path, tmp_path: Path) -> None:
    for group, bits, kind in ((32, None, 4), (48, None, lib.F32), (32, 8, 8)):
        quantize_folder(folder, tmp_path / f"{group}", 4, group, keep=("b.",))
        found = StoredFolder(tmp_path / f"{group}", lambda name, bits=bits: bits, 64)  # type: ignore[misc]
        assert set(found) == {"a.weight", "b.weight", "b.bias"}
        a = found["a.weight"]
        assert isinstance(a, Stored)
        assert a.kind == kind
        wanted = read_model_tensors(tmp_path / f"{group}")["a.weight"]
        assert torch.allclose(a.dense(), wanted, atol=2e-2 if bits else 1e-7)


def test_what_is_damaged_or_missing_is_named(folder: Path, tmp_path: Path) -> None:
    quantize_folder(folder, tmp_path / "q", 4, 32)
    path = tmp_path / "q" / "model.safetensors"
    tensors = load_file(path)
    del tensors["a.weight.scales"]
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"a\.weight"):
        StoredFolder(tmp_path / "q", lambda name: None, 64)["a.weight"]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WeightsError, match="truncated"):
        StoredFolder(tmp_path / "q", lambda name: None, 64)
    with pytest.raises(WeightsError, match="missing"):
        StoredFolder(tmp_path, lambda name: None, 64)
