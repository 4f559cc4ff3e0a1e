"""Round-to-nearest weight quantization: symmetric, one scale for each group of input columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# What folders of quantized weights hold; `packed` has a layout for all of WIDTHS.
BITS = (4, 8)
WIDTHS = (2, 3, 4, 8)


@dataclass(frozen=True, eq=False)
class Quantized:
    """codes [O,I] int8 within +-(2^(bits-1) - 1); scales [O, ceil(I/group)] float32; the last group may be
    shorter.
    """

    codes: Tensor
    scales: Tensor
    bits: int
    group: int


def _spread(scales: Tensor, group: int, width: int) -> Tensor:
    return scales.repeat_interleave(group, dim=1)[:, :width]


def quantize(w: Tensor, bits: int, group: int) -> Quantized:
    """Quantize w [O,I] to `bits` (2, 3, 4 or 8), one scale a row and `group` columns: scale = max|w| / qmax.

    The error of each weight is at most half its scale. Raises ValueError for another shape, other bits, a
    group below 1, or weights that are not finite.
    """
    if w.ndim != 2 or w.numel() == 0 or bits not in WIDTHS or group < 1:
        raise ValueError(
            f"quantize got shape {list(w.shape)}, bits {bits}, group {group}; it takes a matrix, bits of "
            f"{WIDTHS} and a group of at least 1"
        )
    if not bool(torch.isfinite(w).all()):
        raise ValueError("the weights hold numbers that are not finite; restore them before quantizing")
    width, top = w.shape[1], 2 ** (bits - 1) - 1
    padded = torch.nn.functional.pad(w.float(), (0, -width % group)).view(w.shape[0], -1, group)
    scales = padded.abs().amax(dim=2) / top
    # A scale so small that it cannot divide is a group of zeros.
    scales = torch.where(scales > torch.finfo(torch.float32).tiny, scales, torch.ones_like(scales))
    codes = torch.round(w.float() / _spread(scales, group, width)).clamp(-top, top).to(torch.int8)
    return Quantized(codes, scales, bits, group)


def dequantize(q: Quantized) -> Tensor:
    """Return the weights [O,I] float32 that `q` stands for."""
    return q.codes.float() * _spread(q.scales, q.group, q.codes.shape[1])


def pack4(codes: Tensor) -> Tensor:
    """Pack 4-bit codes [O,I] int8 within -8 and 7, two a byte: [O, ceil(I/2)] uint8, even columns low."""
    if codes.dtype != torch.int8 or codes.ndim != 2 or int(codes.abs().amax()) > 8 or int(codes.amax()) > 7:
        raise ValueError(f"pack4 got {codes.dtype} {list(codes.shape)}; it packs int8 codes within -8 and 7")
    nibbles = (torch.nn.functional.pad(codes, (0, codes.shape[1] % 2)) & 15).to(torch.uint8)
    return nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)


def unpack4(packed: Tensor, width: int) -> Tensor:
    """Undo `pack4`: packed [O, ceil(width/2)] uint8 -> codes [O,width] int8."""
    if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] != (width + 1) // 2:
        raise ValueError(
            f"unpack4 got {packed.dtype} {list(packed.shape)} for {width} columns; that is another packing"
        )
    nibbles = torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)[:, :width].to(torch.int8)
    return torch.where(nibbles > 7, nibbles - 16, nibbles)
