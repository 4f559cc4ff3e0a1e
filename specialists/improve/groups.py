"""Group quantization beyond rounding: half-quadratic scales, scales that fit half precision, packing on disk.

Every matrix comes back as `kernels.quant.Quantized`: codes times one scale a group. Rounding uses the
symmetric codes of `kernels.quant.quantize`; half-quadratic codes use all 2^bits, for a scale may be negative
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from ...kernels.packed import PLANES, pack, unpack
from ...kernels.quant import WIDTHS, Quantized, dequantize, quantize

Method = Literal["nearest", "hqq"]
METHODS: Final = ("nearest", "hqq")
HALF_TINY, HALF_HUGE = 6.2e-5, 65504.0


@dataclass(frozen=True)
class HalfQuadratic:
    """The solver's settings, after HQQ (Badri and Shaji, 2023), whose defaults these are but for `shrink`.

    It splits W = codes * scale + E and takes turns: E by the generalised soft threshold of the l_p norm
    (p < 1 lets outliers go), the scale by least squares on W - E; `beta` grows by `kappa` each of `steps`.
    Weights are first divided by their group's mean size, so that the result scales with W. HQQ solves for
    the zero point of a range; our layout has none, so this solves for the scale. `shrink`: first scales
    tried, as parts of the group's extreme.
    """

    p: float = 0.7
    beta: float = 10.0
    kappa: float = 1.01
    steps: int = 10
    shrink: tuple[float, ...] = (1.0, 0.75, 0.55)


@torch.no_grad()
def encode(w: Tensor, bits: int, group: int, method: Method = "nearest") -> Quantized:
    """Quantize w [O,I] to `bits` by a method of METHODS, with scales that half precision holds where it can.

    Raises ValueError as `kernels.quant.quantize`, and for another method.
    """
    if method not in METHODS:
        raise ValueError(f"quantization method {method!r}: choose one of {', '.join(METHODS)}")
    rounded = quantize(w, bits, group)
    found = rounded if method == "nearest" else half_quadratic(w, bits, group)
    return halved(w, found)


def halved(w: Tensor, q: Quantized) -> Quantized:
    """Round the scales to half precision and choose the codes again; unchanged where a scale does not fit."""
    size = q.scales.abs()
    if float(size.max()) > HALF_HUGE or float(size.min()) < HALF_TINY:
        return q
    scales = q.scales.half().float()
    low = int(q.codes.min()) if q.codes.numel() else 0
    lowest = min(low, -(2 ** (q.bits - 1) - 1))
    return Quantized(nearest_codes(w, scales, q.bits, q.group, lowest), scales, q.bits, q.group)


def nearest_codes(w: Tensor, scales: Tensor, bits: int, group: int, lowest: int | None = None) -> Tensor:
    """Return the codes [O,I] int8 nearest to w under scales [O, ceil(I/group)]; by default from
    -2^(bits-1).
    """
    least = -(2 ** (bits - 1)) if lowest is None else lowest
    spread = scales.repeat_interleave(group, dim=1)[:, : w.shape[1]]
    return torch.round(w.float() / spread).clamp(least, 2 ** (bits - 1) - 1).to(torch.int8)


def half_quadratic(w: Tensor, bits: int, group: int, how: HalfQuadratic | None = None) -> Quantized:
    """Quantize w [O,I] so that sum |W - Q|^p is small in every group, by HQQ's alternation on the scale.

    Each group keeps the best of all starts and steps, rounding to nearest among them, so it never does worse
    than that in this norm. Raises ValueError as `kernels.quant.quantize`.
    """
    how = how or HalfQuadratic()
    plain, width = quantize(w, bits, group), w.shape[1]
    blocks = torch.nn.functional.pad(w.float(), (0, -width % group)).view(w.shape[0], -1, group)
    unit = blocks.abs().mean(2)
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))
    blocks, best = blocks / unit[:, :, None], plain.scales / unit
    error = _norm(blocks, _nearest(blocks, best, bits), best, how.p)
    extreme = blocks.gather(2, blocks.abs().argmax(2, keepdim=True))[:, :, 0]
    signed = torch.where(extreme == 0, torch.ones_like(extreme), extreme)
    for sign, size in ((-1.0, 2 ** (bits - 1)), (1.0, 2 ** (bits - 1) - 1)):
        for part in how.shrink:
            best, error = _descend(blocks, sign * part * signed / size, bits, how, best, error)
    codes = _nearest(blocks, best, bits).flatten(1)[:, :width].to(torch.int8)
    return Quantized(codes.contiguous(), best * unit, bits, group)


def _descend(
    blocks: Tensor, scale: Tensor, bits: int, how: HalfQuadratic, best: Tensor, error: Tensor
) -> tuple[Tensor, Tensor]:
    """Alternate from one start; return the best scales [O,G] so far and their errors."""
    beta = how.beta
    for _ in range(how.steps):
        codes = _nearest(blocks, scale, bits)
        found = _norm(blocks, codes, scale, how.p)
        better = found < error
        best, error = torch.where(better, scale, best), torch.where(better, found, error)
        rest = blocks - codes * scale[:, :, None]
        outlier = rest.sign() * (rest.abs() - rest.abs().clamp_min(1e-9).pow(how.p - 1) / beta).clamp_min(0)
        power = codes.square().sum(2)
        fitted = (codes * (blocks - outlier)).sum(2) / power.clamp_min(1)
        scale = torch.where((power > 0) & (fitted.abs() > 1e-12), fitted, scale)
        beta *= how.kappa
    return best, error


def _nearest(blocks: Tensor, scale: Tensor, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    return torch.round(blocks / scale[:, :, None]).clamp(-half, half - 1)


def _norm(blocks: Tensor, codes: Tensor, scale: Tensor, p: float) -> Tensor:
    """Sum of |W - Q|^p in each group, [O,G]."""
    return (blocks - codes * scale[:, :, None]).abs().pow(p).sum(2)


def relative_error(w: Tensor, q: Quantized) -> float:
    """|W - Q| / |W|, Frobenius; 0 for a matrix of zeros."""
    size = float(w.float().norm())
    return float((w.float() - dequantize(q)).norm()) / size if size else 0.0


# -- on disk -------------------------------------------------------------------------------------------------


def packed_codes(q: Quantized) -> Tensor:
    """Return codes as they lie on disk: int8 [O,I] for 8 bits, else the planes of `kernels.packed`, side by
    side, uint8 [O, bytes].
    """
    if q.bits == 8:
        return q.codes.contiguous()
    return torch.cat(pack(q.codes, q.bits), 1).contiguous()


def unpacked_codes(stored: Tensor, bits: int, width: int) -> Tensor:
    """Undo `packed_codes`. Raises ValueError when `stored` is not `width` codes of `bits`."""
    if bits not in WIDTHS:
        raise ValueError(f"{bits} bits; there are {', '.join(map(str, WIDTHS))}")
    if bits == 8:
        return stored
    sizes = [-(-width * one // 8) for one in PLANES[bits]]
    if stored.dtype != torch.uint8 or stored.ndim != 2 or stored.shape[1] != sum(sizes):
        raise ValueError(f"codes {stored.dtype} {list(stored.shape)} for {width} columns of {bits} bits")
    return unpack(tuple(torch.split(stored, sizes, 1)), bits, width)
