"""Products with group-quantized weights, y = x W^T, one token (GEMV) or many (GEMM).

`plain` makes the whole matrix float32 first. `fast` does so a block of rows at a time, which keeps the block
in the cache and the memory small. `Int4` is the CPU path for speed: weights brought once into the layout of
torch's own 4-bit operator. `triton` reads the packed planes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import FLOATS, expect
from .dispatch import Backend, choose
from .packed import Packed, dequantize, unpack

GROUPS = (32, 64, 128, 256)  # of torch's operator
_BLOCK = 1 << 18  # weights that become float32 at a time


def linear(x: Tensor, weight: Packed, backend: Backend = "auto") -> Tensor:
    """Return x [N,I] times the transpose of weight [O,I], [N,O] in x's type; sums are float32.

    Raises ValueError when shapes or types do not fit. No gradient reaches the packed weights.
    """
    expect("x", x, ("N", weight.width), FLOATS, "flatten batch and tokens; the width is the layer's")
    path = choose(backend, x, weight.scales, *weight.planes)
    if path == "triton":
        from . import packed_linear_triton

        return packed_linear_triton.linear(x, weight)
    state = x.float()
    if path == "plain":
        return (state @ dequantize(weight).T).to(x.dtype)
    step = max(1, _BLOCK // weight.width)
    parts = [
        state @ dequantize(weight.rows(at, min(at + step, weight.shape[0]))).T
        for at in range(0, weight.shape[0], step)
    ]
    return torch.cat(parts, dim=1).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Int4:
    """Packed weights in the layout of torch's 4-bit CPU operator, for one type of x.

    2, 3 and 4 bits are one product; 8 bits are two, code = 16 high + low. So 2 and 3 bits cost here the
    memory of 4: the narrow layout saves the file, not the product.
    """

    parts: tuple[tuple[Tensor, Tensor], ...]
    shape: tuple[int, int]
    group: int

    @classmethod
    def of(cls, weight: Packed, dtype: torch.dtype = torch.float32) -> Int4:
        """Repack for x of `dtype`. Raises ValueError off the CPU, for a group that the operator does not
        have, and where this torch has no such operator.
        """
        if weight.group not in GROUPS or weight.scales.device.type != "cpu":
            raise ValueError(
                f"weights in groups of {weight.group} on {weight.scales.device}: torch's 4-bit operator "
                f"takes groups of {GROUPS} on a CPU; use the packed weights as they are"
            )
        if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
            raise ValueError(
                f"torch {torch.__version__} lacks the 4-bit CPU operator; use the packed weights"
            )
        codes = unpack(weight.planes, weight.bits, weight.width).int()
        zeros = torch.zeros_like(weight.scales) if weight.offsets is None else weight.offsets
        if weight.bits == 8:
            fields = codes + 128
            halves = (
                _part(fields >> 4, 16 * weight.scales, torch.zeros_like(zeros), weight.group, dtype),
                _part(fields & 15, weight.scales, zeros + 8 * weight.scales, weight.group, dtype),
            )
            return cls(halves, weight.shape, weight.group)
        part = _part(codes + 8, weight.scales, zeros, weight.group, dtype)
        return cls((part,), weight.shape, weight.group)

    def linear(self, x: Tensor) -> Tensor:
        """Return x [N,I] times the transpose, [N,O]. Raises ValueError for another width or type of x."""
        expect("x", x, ("N", self.shape[1]), (self.parts[0][1].dtype,), "repack for another type")
        padded = torch.nn.functional.pad(x, (0, -self.shape[1] % self.group)).contiguous()
        products = [
            torch.ops.aten._weight_int4pack_mm_for_cpu(padded, codes, self.group, scales)
            for codes, scales in self.parts
        ]
        total: Tensor = products[0] if len(products) == 1 else products[0] + products[1]
        return total[:, : self.shape[0]]


def _part(
    fields: Tensor, scales: Tensor, zeros: Tensor, group: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Lay out fields [O,I] of 0 to 15, meaning (field - 8) * scale + zero, with O filled up to 16 and I to
    the group.
    """
    rows, width = fields.shape
    # Columns that fill up meet zeros of x; rows that fill up are cut off.
    full = torch.nn.functional.pad(fields, (0, -width % group, 0, -rows % 16))
    tables = torch.nn.functional.pad(torch.stack([scales, zeros], dim=2), (0, 0, 0, 0, 0, -rows % 16))
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(full, 1)
    return packed, tables.transpose(0, 1).contiguous().to(dtype)
