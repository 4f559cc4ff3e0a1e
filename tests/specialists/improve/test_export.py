"""Exports hold the codes that the folder holds: other people's readers give back the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pilothouse.specialists.improve.export_compressed import packed_words, to_compressed
from pilothouse.specialists.improve.export_gguf import gguf_name, to_gguf
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.weights import read_model_tensors
from pilothouse.store.errors import UsageError

IDS = torch.arange(4, 24)[None]


def bits(name: str) -> int | None:
    """Layer 0 in 2 bits (3 for the last parameterless test of mixing), layer 1 in 8."""
    if ".layers.0." in name:
        return 2
    return 8 if ".layers.1." in name else None


@pytest.fixture
def llama(tiny_folder: Path, tmp_path: Path) -> Path:
    """A Llama with the tiny tokenizer: its rotary rows lie otherwise in GGUF."""
    torch.manual_seed(0)
    size = json.loads((tiny_folder / "config.json").read_text())["vocab_size"]
    config = LlamaConfig(
        vocab_size=size, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2, eos_token_id=3, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "llama"
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    return folder


@pytest.mark.parametrize("method", ["nearest", "hqq"])
def test_gguf_holds_the_same_weights(tiny_folder: Path, tmp_path: Path, method: Any) -> None:
    quantize_folder(tiny_folder, tmp_path / "q", bits, 32, method=method)
    to_gguf(tmp_path / "q", tmp_path / "model.gguf")
    reader, wanted = gguf.GGUFReader(tmp_path / "model.gguf"), read_model_tensors(tmp_path / "q")
    found = {t.name: t for t in reader.tensors}
    assert sorted(found) == sorted(map(gguf_name, wanted))
    # columns that fill no whole block stay dense, and exact
    kinds = {n: t.tensor_type.name for n, t in found.items()}
    assert kinds["blk.0.attn_q.weight"] == "Q4_0"
    assert kinds["blk.1.attn_q.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_down.weight"] == "F32"
    for name, tensor in wanted.items():
        stored = found[gguf_name(name)]
        values = torch.from_numpy(gguf.quants.dequantize(stored.data, stored.tensor_type).copy())
        assert torch.equal(values.view(tensor.shape), tensor.float()), name


def test_gguf_is_read_as_the_same_model(llama: Path, tmp_path: Path) -> None:
    quantize_folder(llama, tmp_path / "q", bits, 32, method="hqq")
    to_gguf(tmp_path / "q", tmp_path / "q" / "model.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "q", gguf_file="model.gguf").eval()
    with torch.no_grad():
        wanted = load_model_folder(tmp_path / "q")(IDS).logits
        torch.testing.assert_close(theirs(IDS).logits, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [8, 5, 33])
@pytest.mark.parametrize("size", [4, 8])
def test_words_are_those_of_the_package(width: int, size: int) -> None:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    half = 2 ** (size - 1)
    codes = torch.randint(-half, half, (3, width), dtype=torch.int8)
    assert torch.equal(packed_words(codes, size), pack_to_int32(codes, size))


def test_compressed_tensors_load_as_the_same_model(llama: Path, tmp_path: Path) -> None:
    quantize_folder(llama, tmp_path / "q", bits, 32, method="hqq")
    to_compressed(tmp_path / "q", tmp_path / "ct")
    config = json.loads((tmp_path / "ct" / "config.json").read_text())["quantization_config"]
    assert [g["weights"]["num_bits"] for g in config["config_groups"].values()] == [4, 8]
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ct", dtype=torch.float32).eval()
    with torch.no_grad():
        wanted = load_model_folder(tmp_path / "q")(IDS).logits
        torch.testing.assert_close(theirs(IDS).logits.float(), wanted, atol=0.02, rtol=0.02)


def test_what_has_no_counterpart_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not quantized"):
        to_compressed(tiny_folder, tmp_path / "ct")
    quantize_folder(tiny_folder, tmp_path / "q", lambda n: 8 if "q_proj" in n else 4, 16)
    with pytest.raises(UsageError, match="layer 0 mixes"):
        to_compressed(tmp_path / "q", tmp_path / "ct")
    with pytest.raises(UsageError, match="no counterpart"):
        gguf_name("model.layers.0.mlp.experts.weight")
    told = json.loads((tiny_folder / "tokenizer.json").read_text())
    told["pre_tokenizer"] = {"type": "Whitespace"}
    quantize_folder(tiny_folder, tmp_path / "w", 4, 16)
    (tmp_path / "w" / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(UsageError, match="splits by"):
        to_gguf(tmp_path / "w", tmp_path / "x.gguf")
