"""Write a quantized model folder in the compressed-tensors layout, which vLLM and transformers load.

Linear maps of the layers keep their codes, packed into 32-bit words, under one configuration group a width;
3- and 2-bit codes go into 4 bits as they are. Embedding, head and vectors are written in half precision.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...kernels.quant import Quantized
from ...store.errors import UsageError
from ..weights import QUANTIZATION, SINGLE, read_json, read_model_tensors
from .quantize import carry, stored_codes


def to_compressed(folder: Path, target: Path) -> None:
    """Write `target` from the quantized folder `folder`.

    Raises:
        UsageError: it is not quantized, or a layer mixes widths or has groups that do not fill its columns:
        those that run such models fuse a layer's projections.
        WeightsError: its files are missing or damaged.
    """
    if not (folder / QUANTIZATION).is_file():
        raise UsageError(
            f"{folder} is not quantized: quantize it before it is exported to compressed-tensors"
        )
    found = stored_codes(load_file(folder / SINGLE), read_json(folder / QUANTIZATION), folder / SINGLE)
    codes = {name: q for name, q in found.items() if ".layers." in name}
    groups = _groups(codes)
    tensors = {n: t.half() for n, t in read_model_tensors(folder).items() if n not in codes}
    for name, q in codes.items():
        stem = name.removesuffix(".weight")
        tensors[f"{stem}.weight_packed"] = packed_words(q.codes, _width(q))
        tensors[f"{stem}.weight_scale"] = q.scales.half()
        tensors[f"{stem}.weight_shape"] = torch.tensor(q.codes.shape, dtype=torch.int64)
    target.mkdir(parents=True, exist_ok=True)
    carry(folder, target)
    save_file({n: t.contiguous() for n, t in tensors.items()}, target / SINGLE, metadata={"format": "pt"})
    config = read_json(folder / "config.json") | {"dtype": "float16", "quantization_config": _config(groups)}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _width(q: Quantized) -> int:
    return 8 if q.bits == 8 else 4


def _groups(codes: Mapping[str, Quantized]) -> dict[tuple[int, int], set[int]]:
    """The layers of each (width, group)."""
    by_layer: dict[int, set[tuple[int, int]]] = {}
    for name, q in codes.items():
        if q.codes.shape[1] % q.group:
            raise UsageError(f"{name} has {q.codes.shape[1]} columns, no multiple of its group of {q.group}")
        layer = int(name.split(".layers.")[1].split(".")[0])
        by_layer.setdefault(layer, set()).add((_width(q), q.group))
    found: dict[tuple[int, int], set[int]] = {}
    for layer, kinds in sorted(by_layer.items()):
        if len(kinds) > 1:
            raise UsageError(
                f"layer {layer} mixes {sorted(kinds)} (bits, group): give a layer's maps one width"
            )
        found.setdefault(kinds.pop(), set()).add(layer)
    return found


def packed_words(codes: Tensor, bits: int) -> Tensor:
    """Pack codes [O,I] into int32 words [O, ceil(I * bits / 32)], low columns in low bits, lifted to 0 and
    up.
    """
    many = 32 // bits
    lifted = codes.to(torch.int64) + 2 ** (bits - 1)
    padded = torch.nn.functional.pad(lifted, (0, -codes.shape[1] % many)).view(codes.shape[0], -1, many)
    words = (padded << (bits * torch.arange(many))).sum(2)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _config(groups: Mapping[tuple[int, int], set[int]]) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            f"group_{number}": {
                "targets": [rf"re:.*layers\.({'|'.join(map(str, sorted(layers)))})\..*_proj$"],
                "weights": {
                    "num_bits": bits,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "group",
                    "group_size": group,
                    "dynamic": False,
                },
                "input_activations": None,
                "output_activations": None,
            }
            for number, ((bits, group), layers) in enumerate(sorted(groups.items()))
        },
    }
