"""Write a quantized model folder as GGUF: codes and scales are copied, not rounded again.

8-bit codes become Q8_0; 4-, 3- and 2-bit ones fit Q4_0 as they are, so that narrow layers cost 4.5 bits
there. Read by llama.cpp and by transformers. Needs the package `gguf` (`pip install 'pilothouse[export]'`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.quant import Quantized
from ...store.errors import UsageError
from ..weights import QUANTIZATION, SINGLE, WeightsError, read_json, read_model_tensors
from .quantize import stored_codes

KINDS = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
BLOCK = 32
OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
INNER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def to_gguf(folder: Path, target: Path) -> None:
    """Write the model folder, quantized or not, to the file `target`.

    Raises:
        UsageError: `gguf` is not installed, or the kind of model or tokenizer has no counterpart there.
        WeightsError: the folder's files are missing or damaged.
    """
    gguf = _package()
    config = read_json(folder / "config.json")
    kind = KINDS.get(str(config.get("model_type")))
    if kind is None:
        raise UsageError(
            f"a {config.get('model_type')!r} model is not exported to GGUF: {', '.join(KINDS)} are"
        )
    writer = gguf.GGUFWriter(target, kind)
    describe(writer, config, folder)
    _tokenizer(writer, folder, config)
    dense, codes = _tensors(folder)
    for name in sorted({*dense, *codes}):
        heads = _turned(name, config) if kind == "llama" else 0
        data, form = _blocks(codes[name], gguf) if name in codes else (dense[name].float().numpy(), None)
        writer.add_tensor(gguf_name(name), _interleaved(data, heads), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _package() -> Any:
    try:
        import gguf
    except ImportError:
        raise UsageError("writing GGUF needs the package gguf: pip install 'pilothouse[export]'") from None
    return gguf


def gguf_name(name: str) -> str:
    """Return a tensor's name there. Raises UsageError for one that has no counterpart."""
    parts = name.split(".")
    inner = INNER.get(".".join(parts[3:-1]))
    if name in OUTER:
        return OUTER[name]
    if parts[:2] == ["model", "layers"] and inner is not None:
        return f"blk.{parts[2]}.{inner}.{parts[-1]}"
    raise UsageError(f"the tensor {name} has no counterpart in GGUF: export a plain decoder")


def _tensors(folder: Path) -> tuple[dict[str, Tensor], Mapping[str, Quantized]]:
    """Dense tensors, and codes that fill whole blocks."""
    from safetensors.torch import load_file

    dense = read_model_tensors(folder)
    if not (folder / QUANTIZATION).is_file():
        return dense, {}
    found = stored_codes(load_file(folder / SINGLE), read_json(folder / QUANTIZATION), folder / SINGLE)
    codes = {n: q for n, q in found.items() if q.codes.shape[1] % BLOCK == 0 and q.group % BLOCK == 0}
    return {n: t for n, t in dense.items() if n not in codes}, codes


def _blocks(q: Quantized, gguf: Any) -> tuple[NDArray[np.uint8], Any]:
    """Lay codes out in blocks of 32 with a half-precision scale before each: bytes [O, ...] and their
    type.
    """
    rows, columns = q.codes.shape
    scales = q.scales.repeat_interleave(q.group // BLOCK, 1)[:, : columns // BLOCK].half()
    head = scales.contiguous().view(torch.uint8).view(rows, -1, 2)
    cells = q.codes.view(rows, -1, BLOCK)
    if q.bits == 8:
        body, form = cells.contiguous().view(torch.uint8), gguf.GGMLQuantizationType.Q8_0
    else:
        lifted = (cells + 8).to(torch.uint8)
        body = lifted[:, :, : BLOCK // 2] | (lifted[:, :, BLOCK // 2 :] << 4)
        form = gguf.GGMLQuantizationType.Q4_0
    return torch.cat([head, body], 2).flatten(1).contiguous().numpy(), form


def _turned(name: str, config: Mapping[str, Any]) -> int:
    """Heads of a projection whose rows lie in another order there; 0 for the others."""
    heads = int(config["num_attention_heads"])
    if ".q_proj." in name:
        return heads
    return int(config.get("num_key_value_heads") or heads) if ".k_proj." in name else 0


def _interleaved(data: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of each head as Llama there wants them: rotary pairs (i, i + half) side by side."""
    if not heads:
        return data
    split = data.reshape(heads, 2, data.shape[0] // heads // 2, *data.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(data.shape))


def describe(writer: Any, config: Mapping[str, Any], folder: Path) -> None:
    """Write the model's sizes. Raises UsageError for rotary positions that are not plain."""
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    size = int(config.get("head_dim") or width // heads)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise UsageError(f"rotary positions {rope!r} are not exported: use a model with plain ones")
    writer.add_name(folder.resolve().name)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(width)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
    writer.add_vocab_size(int(config["vocab_size"]))


def _tokenizer(writer: Any, folder: Path, config: Mapping[str, Any]) -> None:
    """Write a byte-level BPE tokenizer: tokens, merges, which are special."""
    try:
        told = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder / 'tokenizer.json'} cannot be read ({error}): restore it") from error
    vocabulary, special = told["model"].get("vocab", {}), {t["id"]: t for t in told.get("added_tokens", [])}
    words = {i: w for w, i in vocabulary.items()} | {i: t["content"] for i, t in special.items()}
    size = int(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitting(told))
    writer.add_token_list([words.get(i, f"[PAD{i}]") for i in range(size)])
    # 1 a plain token, 3 a control token, 5 unused
    writer.add_token_types([3 if i in special else 1 if i in words else 5 for i in range(size)])
    merges = told["model"].get("merges", [])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    for key, add in (("eos_token_id", writer.add_eos_token_id), ("pad_token_id", writer.add_pad_token_id)):
        value = config.get(key)
        if isinstance(value, int):
            add(value)
    writer.add_add_bos_token(False)
    settings = folder / "tokenizer_config.json"
    template = read_json(settings).get("chat_template") if settings.is_file() else None
    if isinstance(template, str):
        writer.add_chat_template(template)


def _splitting(told: Mapping[str, Any]) -> str:
    """Name how text is split before merges, as llama.cpp calls it: bytes alone, or digits one by one as well.

    Raises UsageError for another way, for it would tokenize otherwise there.
    """
    pre = told.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    kinds = [step.get("type") for step in steps]
    if told["model"].get("type") == "BPE" and kinds == ["ByteLevel"]:
        return "gpt-2"
    if (
        told["model"].get("type") == "BPE"
        and kinds == ["Digits", "ByteLevel"]
        and steps[0]["individual_digits"]
    ):
        return "smollm"
    raise UsageError(f"a tokenizer that splits by {kinds} is not exported to GGUF: byte-level BPE is")
