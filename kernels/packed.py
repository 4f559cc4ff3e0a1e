"""Group-quantized weights, packed: the layout, and back.

    w[o,i] = scale[o, i // group] * code[o,i] + offset[o, i // group]

A code of b bits is two's complement, -2^(b-1) to 2^(b-1) - 1. Codes lie in planes of uint8, column by column:
a plane of w bits keeps column i in byte i*w // 8 of its row, i*w % 8 bits up; the last byte is filled up with
zeros. 8, 4 and 2 bits are one plane (4 bits: what `quant.pack4` makes); 3 bits are a plane of the two low
bits and a plane of the sign bit, so that no field crosses a byte.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from .checks import expect
from .quant import Quantized

PLANES: Final = {2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}


@dataclass(frozen=True, eq=False)
class Packed:
    """planes: for each width w of PLANES[bits], uint8 [O, ceil(I*w/8)]; scales [O, ceil(I/group)] float32 and
    offsets, the same or None (symmetric); width I.
    """

    planes: tuple[Tensor, ...]
    scales: Tensor
    offsets: Tensor | None
    bits: int
    group: int
    width: int

    def __post_init__(self) -> None:
        if self.bits not in PLANES or self.group < 1 or self.width < 1:
            raise ValueError(
                f"packed weights of {self.bits} bits, group {self.group}, width {self.width}: bits are one "
                f"of {tuple(PLANES)}, group and width at least 1"
            )
        if len(self.planes) != len(PLANES[self.bits]):
            raise ValueError(f"{len(self.planes)} planes for {self.bits} bits; see the layout")
        rows = self.scales.shape[0]
        for bits, plane in zip(PLANES[self.bits], self.planes, strict=True):
            expect("a plane", plane, (rows, -(-self.width * bits // 8)), (torch.uint8,))
        for name, table in (("scales", self.scales), ("offsets", self.offsets)):
            if table is not None:
                expect(name, table, (rows, -(-self.width // self.group)), (torch.float32,))

    @classmethod
    def of(cls, q: Quantized, offsets: Tensor | None = None) -> Packed:
        """Pack codes [O,I], scales and perhaps offsets. Raises ValueError when a code exceeds its bits."""
        planes = pack(q.codes, q.bits)
        return cls(planes, q.scales, offsets, q.bits, q.group, q.codes.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """[O, I] of the matrix."""
        return self.scales.shape[0], self.width

    @property
    def nbytes(self) -> int:
        """Bytes that a product with it reads."""
        tables = (*self.planes, self.scales, *([] if self.offsets is None else [self.offsets]))
        return sum(one.numel() * one.element_size() for one in tables)

    def to(self, device: torch.device | str) -> Packed:
        """Return the same weights on `device`."""
        planes = tuple(plane.to(device) for plane in self.planes)
        offsets = None if self.offsets is None else self.offsets.to(device)
        return replace(self, planes=planes, scales=self.scales.to(device), offsets=offsets)

    def rows(self, first: int, last: int) -> Packed:
        """Return rows first to last - 1, without copying."""
        offsets = None if self.offsets is None else self.offsets[first:last]
        planes = tuple(plane[first:last] for plane in self.planes)
        return replace(self, planes=planes, scales=self.scales[first:last], offsets=offsets)


def quantize_range(w: Tensor, bits: int, group: int) -> Packed:
    """Quantize w [O,I] between the least and the largest weight of every group: all codes are used, so 2 and
    3 bits err less than symmetric ones do (`quant.quantize`).

    The error of each weight is at most half its scale. Raises ValueError for another shape, other bits, a
    group below 1 and weights that are not finite.
    """
    if w.ndim != 2 or w.numel() == 0 or bits not in PLANES or group < 1 or not bool(torch.isfinite(w).all()):
        raise ValueError(
            f"quantize_range got shape {list(w.shape)}, bits {bits}, group {group}; it takes a matrix of "
            f"finite numbers, bits of {tuple(PLANES)} and a group of at least 1"
        )
    width, half = w.shape[1], 2 ** (bits - 1)
    # The last column repeated fills up a short group: it moves neither end.
    tail = w[:, -1:].expand(-1, -width % group)
    blocks = torch.cat([w, tail], dim=1).float().view(w.shape[0], -1, group)
    low, high = blocks.amin(dim=2), blocks.amax(dim=2)
    scales = (high - low) / (2 * half - 1)
    # A group of equal weights is its offset: scale 0.
    scales = torch.where(scales > torch.finfo(torch.float32).tiny, scales, torch.zeros_like(scales))
    steps = torch.where(scales > 0, scales, torch.ones_like(scales))
    codes = ((blocks - low[:, :, None]) / steps[:, :, None]).round().clamp(0, 2 * half - 1) - half
    codes = codes.to(torch.int8).flatten(1)[:, :width]
    return Packed.of(Quantized(codes, scales, bits, group), low + half * scales)


def pack(codes: Tensor, bits: int) -> tuple[Tensor, ...]:
    """Pack codes [O,I] int8 into the planes of `bits`. Raises ValueError when a code exceeds its bits."""
    if bits not in PLANES:
        raise ValueError(f"{bits} bits have no layout; there is one for {', '.join(map(str, PLANES))}")
    expect("codes", codes, ("O", "I"), (torch.int8,))
    low, high = (int(codes.min()), int(codes.max())) if codes.numel() else (0, 0)
    if low < -(2 ** (bits - 1)) or high >= 2 ** (bits - 1):
        raise ValueError(f"codes from {low} to {high} do not fit {bits} bits; quantize to fewer levels")
    planes, rest = [], codes.view(torch.uint8)
    for width in PLANES[bits]:
        planes.append(_pack_plane(rest & (2**width - 1), width))
        rest = rest >> width
    return tuple(planes)


def unpack(planes: tuple[Tensor, ...], bits: int, width: int) -> Tensor:
    """Undo `pack`: the planes of `bits` -> codes [O,width] int8."""
    fields = torch.zeros(planes[0].shape[0], width, dtype=torch.uint8, device=planes[0].device)
    at = 0
    for size, plane in zip(PLANES[bits], planes, strict=True):
        fields |= _unpack_plane(plane, size)[:, :width] << at
        at += size
    # Lift the sign bit to the top and let the shift back repeat it.
    lifted = torch.bitwise_left_shift(fields, 8 - bits).view(torch.int8)
    return torch.bitwise_right_shift(lifted, 8 - bits)


def _pack_plane(fields: Tensor, width: int) -> Tensor:
    """fields [O,I] uint8 below 2^width -> [O, ceil(I*width/8)]."""
    many = 8 // width
    padded = torch.nn.functional.pad(fields, (0, -fields.shape[1] % many)).view(fields.shape[0], -1, many)
    plane = torch.zeros(padded.shape[:2], dtype=torch.uint8, device=fields.device)
    for i in range(many):
        plane |= padded[:, :, i] << (i * width)
    return plane


def _unpack_plane(plane: Tensor, width: int) -> Tensor:
    """Undo `_pack_plane`, with the fields that fill up the last byte."""
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=plane.device)
    fields = torch.bitwise_right_shift(plane[:, :, None], shifts)
    return torch.bitwise_and(fields, 2**width - 1).flatten(1)


def dequantize(packed: Packed) -> Tensor:
    """Return the weights [O,I] float32 that `packed` stands for."""
    codes = unpack(packed.planes, packed.bits, packed.width).float()
    weights = codes * _spread(packed.scales, packed)
    return weights if packed.offsets is None else weights + _spread(packed.offsets, packed)


def _spread(table: Tensor, packed: Packed) -> Tensor:
    return table.repeat_interleave(packed.group, dim=1)[:, : packed.width]
