"""Read a model folder's tensors as the native engine stores them: dense, or as the codes they are kept in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ....kernels.quant import quantize
from ...weights import QUANTIZATION, read_json, read_model_tensors
from . import library as lib

GROUPS: Final = (32, 64, 128, 256)
DENSE: Final = {torch.float32: lib.F32, torch.bfloat16: lib.BF16, torch.float16: lib.F16}

# Which bits a weight gets by its name; None leaves it as it is stored.
Precision = Callable[[str], int | None]


@dataclass(frozen=True, eq=False)
class Stored:
    """One matrix [O, I]: dense numbers, or codes [O, I] int8 with scales [O, ceil(I / group)]."""

    kind: int
    data: Tensor
    scales: Tensor | None = None
    group: int = 0

    def dense(self) -> Tensor:
        """Return the weights [O, I] float32 that it stands for."""
        if self.scales is None:
            return self.data.float()
        spread = self.scales.float().repeat_interleave(self.group, dim=1)[:, : self.data.shape[1]]
        return self.data.float() * spread


def stored(weight: Tensor, bits: int | None, group: int) -> Stored:
    """Return a matrix as it is (bits None), or rounded to `bits`."""
    if bits is None:
        kept = weight if weight.dtype in DENSE else weight.float()
        return Stored(DENSE[kept.dtype], kept.contiguous())
    q = quantize(weight, bits, group)
    return Stored(bits, q.codes.contiguous(), q.scales.float().contiguous(), group)


def read_stored(folder: Path, precision: Precision, group: int) -> dict[str, Stored | Tensor]:
    """Return a folder's matrices and vectors by name. What `quantization.json` says stays as it was stored,
    if its groups suit the engine.

    Raises:
        WeightsError: the files are missing, pickled, truncated or damaged.
    """
    tensors = read_model_tensors(folder)
    codes = _codes(folder) if (folder / QUANTIZATION).is_file() else {}
    found: dict[str, Stored | Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            found[name] = tensor.float().contiguous()
        elif name in codes and precision(name) is None:
            found[name] = codes[name]
        else:
            found[name] = stored(tensor, precision(name), group)
    return found


def _codes(folder: Path) -> Mapping[str, Stored]:
    """The quantized matrices of a folder as codes; those in groups that the engine does not run are left
    out.
    """
    from safetensors.torch import load_file

    from ...improve.quantize import stored_codes
    from ...weights import SINGLE

    path = folder / SINGLE
    found = stored_codes(load_file(path), read_json(folder / QUANTIZATION), path)
    return {
        name: Stored(q.bits, q.codes.contiguous(), q.scales.contiguous(), q.group)
        for name, q in found.items()
        if q.group in GROUPS
    }
