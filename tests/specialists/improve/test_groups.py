"""Group quantization: the solver never loses to rounding in its own norm, packing keeps every code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pilothouse.kernels.quant import WIDTHS, Quantized, dequantize, quantize
from pilothouse.specialists.engines.native import library
from pilothouse.specialists.engines.native.model import Context, NativeModel
from pilothouse.specialists.engines.native.run import Run
from pilothouse.specialists.improve.groups import (
    HalfQuadratic,
    encode,
    half_quadratic,
    packed_codes,
    relative_error,
    unpacked_codes,
)
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.lean import load_lean
from pilothouse.specialists.models import load_model_folder


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.05


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("width", [64, 33, 7])
def test_half_quadratic_beats_rounding_in_every_group(bits: int, width: int) -> None:
    w, group, p = matrix(9, width), 16, HalfQuadratic().p
    ours, plain = half_quadratic(w, bits, group), quantize(w, bits, group)

    def errors(q: Quantized) -> torch.Tensor:
        off = torch.nn.functional.pad((w - dequantize(q)).abs().pow(p), (0, -width % group))
        return off.view(9, -1, group).sum(2)

    assert (errors(ours) <= errors(plain) * 1.001 + 1e-5).all()
    assert errors(ours).sum() < errors(plain).sum() * (0.99 if bits < 8 else 1.001)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_half_quadratic_scales_with_the_weights(bits: int) -> None:
    w = matrix(8, 64)
    one, large = half_quadratic(w, bits, 16), half_quadratic(8 * w, bits, 16)
    assert torch.equal(one.codes, large.codes)
    torch.testing.assert_close(8 * one.scales, large.scales)


def test_two_bits_use_all_four_levels() -> None:
    codes = half_quadratic(matrix(8, 64), 2, 16).codes
    assert sorted(codes.unique().tolist()) == [-2, -1, 0, 1]


def test_zeros_stay_zeros_and_more_bits_err_less() -> None:
    w = matrix(8, 64)
    w[0] = 0
    errors = []
    for bits in WIDTHS:
        q = encode(w, bits, 16, "hqq")
        assert not dequantize(q)[0].any()
        errors.append(relative_error(w, q))
    assert errors == sorted(errors, reverse=True)
    assert relative_error(torch.zeros(2, 4), encode(torch.zeros(2, 4), 4, 4)) == 0


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("width", [1, 5, 64])
def test_packing_keeps_codes(bits: int, width: int) -> None:
    half = 2 ** (bits - 1)
    codes = torch.randint(-half, half, (3, width), dtype=torch.int8)
    q = Quantized(codes, torch.ones(3, 1), bits, width)
    assert torch.equal(unpacked_codes(packed_codes(q), bits, width), codes)
    with pytest.raises(ValueError, match="bits"):
        unpacked_codes(packed_codes(q), 5, width)


def mixed(name: str) -> int | None:
    if "embed" in name:
        return None
    return {"q_proj": 8, "k_proj": 4, "v_proj": 3, "o_proj": 2}.get(name.split(".")[-2], 3)


@pytest.mark.parametrize("method", ["nearest", "hqq"])
def test_mixed_folders_load_alike_everywhere(tiny_folder: Path, tmp_path: Path, method: str) -> None:
    report = quantize_folder(tiny_folder, tmp_path, mixed, 32, method=method)  # type: ignore[arg-type]
    head = json.loads((tmp_path / "quantization.json").read_text())
    bits = {name: one["bits"] for name, one in head["weights"].items()}
    assert bits["model.layers.0.self_attn.q_proj.weight"] == 8
    assert bits["model.layers.1.self_attn.o_proj.weight"] == 2
    assert "model.embed_tokens.weight" not in bits
    assert 2 < report.bits < 8
    tokens = torch.arange(4, 24)[None]
    with torch.no_grad():
        plain = load_model_folder(tmp_path)(tokens).logits
        lean = load_lean(tmp_path)(tokens).logits
    torch.testing.assert_close(plain, lean, atol=1e-3, rtol=1e-3)
    weights = load_file(tiny_folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    q = encode(weights[name], 3, 32, method)  # type: ignore[arg-type]
    loaded = load_model_folder(tmp_path).state_dict()[name]
    assert torch.equal(loaded, dequantize(q))


@pytest.mark.skipif(not library.kernels(), reason="the native engine is not compiled")
@pytest.mark.parametrize("method", ["nearest", "hqq"])
def test_native_engine_multiplies_with_mixed_codes(tiny_folder: Path, tmp_path: Path, method: str) -> None:
    quantize_folder(tiny_folder, tmp_path, mixed, 32, method=method)  # type: ignore[arg-type]
    model = NativeModel(Context(1), tmp_path)
    assert model.kinds >= {8, 4, 3, 2}
    tokens = list(range(4, 24))
    run = Run(model.sequence(), tokens, want_logits=True)
    model.step([run])
    with torch.no_grad():
        wanted = load_model_folder(tmp_path)(torch.tensor([tokens])).logits[0, -1]
    assert run.logits is not None
    torch.testing.assert_close(run.logits, wanted, atol=0.02, rtol=0.02)
