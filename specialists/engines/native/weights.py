"""Read a model folder's tensors as the native engine stores them: dense, or as the codes they are kept in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ....kernels.quant import Quantized, dequantize, quantize
from ...improve.quantize import PARTS, listed, stored_codes
from ...weights import QUANTIZATION, SINGLE, load_stored, model_files, read_json
from . import library as lib

GROUPS: Final = (32, 64, 128, 256)
PIECE: Final = 1 << 20  # weights that are rounded at once
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
    height, width = weight.shape
    codes = torch.empty(height, width, dtype=torch.int8)
    scales = torch.empty(height, -(-width // group))
    step = max(1, PIECE // width)
    for row in range(0, height, step):  # rounding takes several times the memory of what it rounds
        q = quantize(weight[row : row + step], bits, group)
        codes[row : row + step], scales[row : row + step] = q.codes, q.scales
    return Stored(bits, codes, scales, group)


class StoredFolder(Mapping[str, Stored | Tensor]):
    """A folder's matrices and vectors by name, each read when it is asked for and kept by nobody.

    What `quantization.json` says stays as it was stored, if its groups suit the engine.
    """

    def __init__(self, folder: Path, precision: Precision, group: int) -> None:
        """`precision` and `group` as `NativeModel` takes them.

        Raises:
            WeightsError: the files are missing, pickled, truncated or damaged.
        """
        self.folder, self.precision, self.group = folder, precision, group
        quantized = (folder / QUANTIZATION).is_file()
        self._head: dict[str, Any] = read_json(folder / QUANTIZATION) if quantized else {}
        coded = listed(self._head, folder / SINGLE) if quantized else {}
        found = [(name, file) for file in model_files(folder) for name in load_stored(folder, file)]
        parts = {f"{name}.{part}" for name in coded for part in PARTS}
        self._files = {name: file for name, file in found if name not in parts} | dict.fromkeys(coded, SINGLE)
        self._coded = frozenset(coded)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, name: str) -> Stored | Tensor:
        """Raises KeyError for a name that is not there, WeightsError for a damaged file."""
        file, bits = self._files[name], self.precision(name)
        if name in self._coded:
            q = self._codes(name, file)
            if bits is None and q.group in GROUPS:
                return Stored(q.bits, q.codes.contiguous(), q.scales.contiguous(), q.group)
            return stored(dequantize(q), bits, self.group)
        tensor: Tensor = load_stored(self.folder, file, [name])[name]
        return stored(tensor, bits, self.group) if tensor.ndim == 2 else tensor.float().contiguous()

    def _codes(self, name: str, file: str) -> Quantized:
        tensors = load_stored(self.folder, file, [f"{name}.{part}" for part in PARTS])
        head = {**self._head, "weights": {name: self._head["weights"][name]}}
        return stored_codes(tensors, head, self.folder / file)[name]
