"""Quantize the weights of a model or adapter folder by rounding to nearest, int8 or int4, one scale per
group.

`quantization.json` says how; `NAME.codes` and `NAME.scales` stand in for each quantized `NAME`. Weights come
back as fp32 when the folder is loaded: what is saved is disk and download, not memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...kernels.quant import BITS, Quantized, dequantize, pack4, quantize, unpack4
from ..adapters import WEIGHTS as ADAPTER
from ..models import QUANTIZATION, SINGLE
from ..weights import WeightsError, missing, read_tensors

FORMAT = 1
CARRIED = {".json", ".jinja", ".txt", ".model", ".toml"}


@dataclass(frozen=True)
class Report:
    """What quantizing did: bytes of weights before and after, and |W - Q| / |W| (Frobenius) overall."""

    bits: int
    group: int
    tensors: int
    bytes_before: int
    bytes_after: int
    relative_error: float


def quantize_folder(
    source: Path, target: Path, bits: int = 8, group: int = 64, keep: Sequence[str] = ()
) -> Report:
    """Write `target` as the quantized twin of the model or adapter folder `source`.

    Matrices are quantized, vectors (gains, biases) kept; so are matrices whose name contains one of `keep`.

    Raises:
        ValueError: `bits` is not 4 or 8, or `group` is below 1.
        WeightsError: the weights are missing, in several files, or quantized already.
    """
    if bits not in BITS or group < 1:
        raise ValueError(f"bits {bits}, group {group}: bits are one of {BITS}, a group has at least 1 column")
    if (source / QUANTIZATION).is_file():
        raise WeightsError(f"{source} is quantized already: start from the folder it was made from")
    name = next((n for n in (SINGLE, ADAPTER) if (source / n).is_file()), None)
    if name is None:
        raise WeightsError(missing(source, SINGLE))
    tensors = read_tensors(source, name)
    stored, settings, wrong, right = _quantized(tensors, bits, group, keep)
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path.suffix in CARRIED and path.name != "manifest.json":
            shutil.copyfile(path, target / path.name)
    save_file(stored, target / name, metadata={"format": "pt"})
    before, after = (source / name).stat().st_size, (target / name).stat().st_size
    report = Report(bits, group, len(settings), before, after, (wrong / max(right, 1e-30)) ** 0.5)
    head = {"format": FORMAT, "scheme": "symmetric round-to-nearest", **asdict(report), "weights": settings}
    (target / QUANTIZATION).write_text(json.dumps(head, indent=1) + "\n")
    return report


def _quantized(
    tensors: Mapping[str, Tensor], bits: int, group: int, keep: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, list[int]], float, float]:
    """Return stored tensors, the shape of each quantized one, and the squared norms of error and weights."""
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    wrong = right = 0.0
    for name, weight in tensors.items():
        if weight.ndim != 2 or not weight.is_floating_point() or any(part in name for part in keep):
            stored[name] = weight.contiguous()
            continue
        q = quantize(weight, bits, group)
        shapes[name] = list(weight.shape)
        stored[f"{name}.codes"] = (pack4(q.codes) if bits == 4 else q.codes).contiguous()
        stored[f"{name}.scales"] = q.scales.contiguous()
        wrong += float((dequantize(q) - weight.float()).square().sum())
        right += float(weight.float().square().sum())
    return stored, shapes, wrong, right


def expand(tensors: Mapping[str, Tensor], head: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the weights that stored tensors stand for, in fp32; `path` is named in errors.

    Raises:
        WeightsError: `quantization.json` is of another format, or does not fit the tensors.
    """
    bits, group, shapes = head.get("bits"), head.get("group"), head.get("weights")
    known = head.get("format") == FORMAT and bits in BITS
    if not known or not isinstance(bits, int) or not isinstance(group, int) or not isinstance(shapes, dict):
        raise WeightsError(
            f"{path.parent / QUANTIZATION} is no quantization of format {FORMAT} "
            f"(bits {bits!r}, group {group!r}): restore it"
        )
    found = {n: t for n, t in tensors.items() if not n.endswith((".codes", ".scales"))}
    for name, shape in shapes.items():
        try:
            found[name] = _expanded(tensors[f"{name}.codes"], tensors[f"{name}.scales"], bits, group, shape)
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{path} does not hold {name} as {QUANTIZATION} says ({error}): restore both"
            ) from error
    return found


def _expanded(codes: Tensor, scales: Tensor, bits: int, group: int, shape: Sequence[int]) -> Tensor:
    codes = unpack4(codes, shape[1]) if bits == 4 else codes
    wanted = [shape[0], -(-shape[1] // group)]
    if codes.dtype != torch.int8 or list(codes.shape) != list(shape) or list(scales.shape) != wanted:
        raise ValueError(f"codes {list(codes.shape)}, scales {list(scales.shape)}")
    return dequantize(Quantized(codes, scales, bits, group))
