"""Checkpoints that vLLM reads as quantized ones, from a folder of dense weights.

The layout is that of compressed-tensors: `config.json` names the scheme, and each linear map has codes and
scales in place of its weight. The recipes' export (`to_compressed`) leaves the head as it is and knows no
activations of 8 bits; here all maps are rounded, to compare engines at the same bits. A tied head gets a
weight of its own; the embedding stays dense.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...kernels.quant import quantize
from ...specialists.improve.export_compressed import packed_words
from ...specialists.weights import read_json, read_model_tensors

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
GROUP = 64


def write_quantized(folder: Path, target: Path, bits: int) -> None:
    """Write `folder` with all its linear maps rounded to `bits`.

    8: one scale a row, and activations in 8 bits too, scaled for each token when they come (W8A8). 4: one
    scale for `GROUP` columns, activations as they are (W4A16).
    """
    config, tensors = read_json(folder / "config.json"), read_model_tensors(folder)
    if config["tie_word_embeddings"]:
        tensors[HEAD] = tensors[EMBEDDING]
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2 or name == EMBEDDING:
            found[name] = tensor.clone().contiguous()
        else:
            found |= _codes(name.removesuffix(".weight"), tensor, bits)
    target.mkdir(parents=True)
    save_file(found, target / "model.safetensors", metadata={"format": "pt"})
    head = {**config, "tie_word_embeddings": False, "quantization_config": _scheme(bits)}
    (target / "config.json").write_text(json.dumps(head, indent=1) + "\n")


def _codes(name: str, weight: Tensor, bits: int) -> dict[str, Tensor]:
    q = quantize(weight, bits, weight.shape[1] if bits == 8 else GROUP)
    scales = {f"{name}.weight_scale": q.scales.to(torch.bfloat16)}
    if bits == 8:
        return {f"{name}.weight": q.codes, **scales}
    shape = torch.tensor(weight.shape)
    return {f"{name}.weight_packed": packed_words(q.codes, bits), f"{name}.weight_shape": shape, **scales}


def _scheme(bits: int) -> dict[str, Any]:
    weights: dict[str, Any] = {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False}
    weights |= {"strategy": "channel"} if bits == 8 else {"strategy": "group", "group_size": GROUP}
    inputs = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": True, "strategy": "token"}
    scheme = {
        "targets": ["Linear", "re:.*lm_head"],
        "weights": weights,
        "input_activations": inputs if bits == 8 else None,
    }
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": "int-quantized" if bits == 8 else "pack-quantized",
        "config_groups": {"group_0": scheme},
        "ignore": [],
    }
