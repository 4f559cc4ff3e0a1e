"""Quantize the weights of a model or adapter folder: 8, 4, 3 or 2 bits a matrix, one scale per group.

`quantization.json` says how; `NAME.codes` and `NAME.scales` stand in for each quantized `NAME`. The native
engine multiplies with the codes; elsewhere weights come back as fp32 when the folder is loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ...kernels.quant import BITS, WIDTHS, Quantized, dequantize
from ..adapters import WEIGHTS as ADAPTER
from ..models import QUANTIZATION, SINGLE
from ..weights import WeightsError, missing, read_model_tensors, read_tensors
from .groups import Method, encode, packed_codes, unpacked_codes

FORMAT = 2
PARTS = ("codes", "scales")  # what stands in for a quantized weight, each after its name and a dot
CARRIED = {".json", ".jinja", ".txt", ".model", ".toml"}

# Which bits a matrix gets by its name; None leaves it as it is.
Choice = Callable[[str], int | None]


@dataclass(frozen=True)
class Report:
    """What quantizing did: mean bits of a quantized weight without its scale, bytes of weights before and
    after, and |W - Q| / |W| (Frobenius) overall.
    """

    bits: float
    group: int
    tensors: int
    bytes_before: int
    bytes_after: int
    relative_error: float


def quantize_folder(
    source: Path,
    target: Path,
    bits: int | Choice = 8,
    group: int = 64,
    keep: Sequence[str] = (),
    *,
    method: Method = "nearest",
    made: Mapping[str, Quantized] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Report:
    """Write `target` as the quantized twin of the model or adapter folder `source`.

    Matrices get the bits of `bits`, vectors (gains, biases) stay; so do matrices whose name contains one of
    `keep`. `made` holds codes that another solver made (GPTQ), by name; `about` is noted in
    quantization.json.

    Raises:
        ValueError: bits that are not 8, 4, 3 or 2, or a `group` below 1.
        WeightsError: the weights are missing, or quantized already.
    """
    if (isinstance(bits, int) and bits not in WIDTHS) or group < 1:
        raise ValueError(
            f"bits {bits}, group {group}: bits are one of {WIDTHS}, a group has at least 1 column"
        )
    if (source / QUANTIZATION).is_file():
        raise WeightsError(f"{source} is quantized already: start from the folder it was made from")
    name, tensors = _read(source)
    choice = (lambda _name: bits) if isinstance(bits, int) else bits
    codes = {
        n: (made or {}).get(n) or encode(w, wanted, group, method)
        for n, w in tensors.items()
        if (wanted := _wanted(n, w, choice, keep)) is not None
    }
    target.mkdir(parents=True, exist_ok=True)
    carry(source, target)
    save_file(_stored(tensors, codes), target / name, metadata={"format": "pt"})
    report = _report(tensors, codes, group, source, target / name)
    listed = {n: {"shape": list(q.codes.shape), "bits": q.bits, "group": q.group} for n, q in codes.items()}
    head = {"format": FORMAT, "method": method, **asdict(report), **(about or {}), "weights": listed}
    (target / QUANTIZATION).write_text(json.dumps(head, indent=1) + "\n")
    return report


def _read(source: Path) -> tuple[str, dict[str, Tensor]]:
    if (source / ADAPTER).is_file():
        return ADAPTER, read_tensors(source, ADAPTER)
    tensors = read_model_tensors(source)
    if not tensors:
        raise WeightsError(missing(source, SINGLE))
    return SINGLE, tensors


def _wanted(name: str, weight: Tensor, choice: Choice, keep: Sequence[str]) -> int | None:
    if weight.ndim != 2 or not weight.is_floating_point() or any(part in name for part in keep):
        return None
    return choice(name)


def carry(source: Path, target: Path) -> None:
    """Copy what lies beside the weights: configuration, tokenizer, templates."""
    for path in source.iterdir():
        beside = path.suffix in CARRIED and path.name not in ("manifest.json", QUANTIZATION)
        if path.is_file() and beside and not path.name.endswith(".index.json"):
            shutil.copyfile(path, target / path.name)


def _stored(tensors: Mapping[str, Tensor], codes: Mapping[str, Quantized]) -> dict[str, Tensor]:
    stored = {n: w.contiguous() for n, w in tensors.items() if n not in codes}
    for name, q in codes.items():
        stored[f"{name}.codes"] = packed_codes(q)
        half = q.scales.half()
        exact = torch.equal(half.float(), q.scales)
        stored[f"{name}.scales"] = (half if exact else q.scales).contiguous()
    return stored


def _report(
    tensors: Mapping[str, Tensor], codes: Mapping[str, Quantized], group: int, source: Path, written: Path
) -> Report:
    wrong = sum(float((dequantize(q) - tensors[n].float()).square().sum()) for n, q in codes.items())
    right = sum(float(tensors[n].float().square().sum()) for n in codes)
    count = sum(q.codes.numel() for q in codes.values())
    mean = sum(q.bits * q.codes.numel() for q in codes.values()) / max(count, 1)
    before = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    error = (wrong / max(right, 1e-30)) ** 0.5
    return Report(mean, group, len(codes), before, written.stat().st_size, error)


# -- reading back --------------------------------------------------------------------------------------------


def expand(tensors: Mapping[str, Tensor], head: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the weights that stored tensors stand for, in fp32; `path` is named in errors.

    Raises:
        WeightsError: `quantization.json` is of another format, or does not fit the tensors.
    """
    found = {n: t for n, t in tensors.items() if not n.endswith((".codes", ".scales"))}
    return found | {name: dequantize(q) for name, q in stored_codes(tensors, head, path).items()}


def stored_codes(tensors: Mapping[str, Tensor], head: Mapping[str, Any], path: Path) -> dict[str, Quantized]:
    """Return the codes and scales that a quantized file holds, by the names of the weights they stand for.

    Raises:
        WeightsError: as `expand`.
    """
    found = {}
    for name, (shape, bits, group) in listed(head, path).items():
        try:
            found[name] = _checked(tensors[f"{name}.codes"], tensors[f"{name}.scales"], bits, group, shape)
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{path} does not hold {name} as {QUANTIZATION} says ({error}): restore both"
            ) from error
    return found


def listed(head: Mapping[str, Any], path: Path) -> dict[str, tuple[list[int], int, int]]:
    """Return shape, bits and group of each quantized weight; format 1 had the same bits and group for all.

    Raises:
        WeightsError: it is of another format; `path` is named.
    """
    kind, weights = head.get("format"), head.get("weights")
    try:
        if kind == FORMAT and isinstance(weights, dict):
            return {
                n: (list(map(int, one["shape"])), int(one["bits"]), int(one["group"]))
                for n, one in weights.items()
            }
        if kind == 1 and head.get("bits") in BITS and isinstance(weights, dict):
            bits, group = int(head["bits"]), int(head["group"])
            return {n: (list(map(int, shape)), bits, group) for n, shape in weights.items()}
    except (KeyError, TypeError, ValueError):
        pass
    raise WeightsError(
        f"{path.parent / QUANTIZATION} is no quantization of format 1 or {FORMAT} (format {kind!r}, bits "
        f"{head.get('bits')!r}): restore it"
    )


def _checked(stored: Tensor, scales: Tensor, bits: int, group: int, shape: Sequence[int]) -> Quantized:
    codes = unpacked_codes(stored, bits, shape[1])
    wanted = [shape[0], -(-shape[1] // max(group, 1))]
    if codes.dtype != torch.int8 or list(codes.shape) != list(shape) or list(scales.shape) != wanted:
        raise ValueError(f"codes {list(codes.shape)}, scales {list(scales.shape)}")
    return Quantized(codes, scales.float(), bits, group)
