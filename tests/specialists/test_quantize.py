"""Quantized folders load close to what they were made from, and say plainly when they are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.adapters import AdapterBank
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.weights import WeightsError, read_tensors

TOKENS = torch.arange(4, 24)[None]


@pytest.mark.parametrize(("bits", "most"), [(8, 0.01), (4, 0.15)])
def test_error_and_size_are_those_of_the_bits(
    tiny_folder: Path, tmp_path: Path, bits: int, most: float
) -> None:
    report = quantize_folder(tiny_folder, tmp_path, bits, 16)
    assert 0 < report.relative_error < most
    assert report.bytes_after < report.bytes_before * (bits + 2.5) / 32 + 12_000  # headers, gains
    weights, back = load_file(tiny_folder / "model.safetensors"), read_tensors(tmp_path, "model.safetensors")
    assert sorted(weights) == sorted(back)
    for name, weight in weights.items():
        if weight.ndim == 1:
            assert torch.equal(weight, back[name])
            continue
        step = weight.view(weight.shape[0], -1, 16).abs().amax(2) / (2 ** (bits - 1) - 1)
        assert ((weight - back[name]).abs() <= 0.5003 * step.repeat_interleave(16, 1)).all()


def test_int8_models_answer_alike_and_int4_less_so(tiny_folder: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        exact = load_model_folder(tiny_folder)(TOKENS).logits.log_softmax(-1)
        off = []
        for bits in (8, 4):
            quantize_folder(tiny_folder, tmp_path / str(bits), bits, 16)
            logits = load_model_folder(tmp_path / str(bits))(TOKENS).logits.log_softmax(-1)
            off.append(float((exact.exp() * (exact - logits)).sum(-1).mean()))
    assert 0 < off[0] < 1e-3 < off[1]


def test_kept_matrices_stay_exact(tiny_folder: Path, tmp_path: Path) -> None:
    quantize_folder(tiny_folder, tmp_path, 4, 16, keep=("embed_tokens",))
    name = "model.embed_tokens.weight"
    assert torch.equal(
        load_file(tmp_path / "model.safetensors")[name], load_file(tiny_folder / "model.safetensors")[name]
    )


def test_adapters_can_be_quantized_too(
    tiny_family: Path, tiny_model: Qwen3ForCausalLM, tmp_path: Path
) -> None:
    quantize_folder(tiny_family / "specialists" / "alpha", tmp_path, 8, 16)
    bank = AdapterBank(tiny_model)
    bank.load("exact", tiny_family / "specialists" / "alpha")
    bank.load("small", tmp_path)
    found = {}
    with torch.no_grad():
        found["idle"] = tiny_model(TOKENS).logits
        for name in ("exact", "small"):
            with bank.active(name):
                found[name] = tiny_model(TOKENS).logits
    assert (found["exact"] - found["small"]).abs().max() < 0.05 * (found["exact"] - found["idle"]).abs().max()


def test_damage_names_the_file(tiny_folder: Path, tmp_path: Path) -> None:
    quantize_folder(tiny_folder, tmp_path, 8, 16)
    tensors = load_file(tmp_path / "model.safetensors")
    lost = "model.norm.weight"
    scales = "model.layers.0.mlp.up_proj.weight.scales"
    save_file(tensors | {scales: tensors[scales][:5]}, tmp_path / "model.safetensors")
    with pytest.raises(
        WeightsError, match=r"model\.safetensors does not hold model\.layers\.0\.mlp\.up_proj\.weight"
    ):
        load_model_folder(tmp_path)
    save_file({n: t for n, t in tensors.items() if n != lost}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lacks model\.norm\.weight"):
        load_model_folder(tmp_path)
    (tmp_path / "quantization.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(WeightsError, match=r"quantization\.json is no quantization of format 1"):
        load_model_folder(tmp_path)


def test_wrong_requests_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bits 5"):
        quantize_folder(tiny_folder, tmp_path, 5)
    quantize_folder(tiny_folder, tmp_path / "q")
    with pytest.raises(WeightsError, match="quantized already"):
        quantize_folder(tmp_path / "q", tmp_path / "qq")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"model\.safetensors is missing"):
        quantize_folder(tmp_path / "empty", tmp_path / "x")
