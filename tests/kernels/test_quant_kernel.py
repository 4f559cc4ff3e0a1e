"""Quantization: error within half a scale, exact where it can be, 4-bit packing without loss."""

import pytest
import torch

from pilothouse.kernels.quant import dequantize, pack4, quantize, unpack4

SHAPES = [(1, 1), (3, 7), (5, 65), (2, 128)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [1, 32, 1000])
def test_error_is_at_most_half_a_scale(shape: tuple[int, int], bits: int, group: int) -> None:
    w = torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 3
    q = quantize(w, bits, group)
    scales = q.scales.repeat_interleave(group, 1)[:, : shape[1]]
    assert bool(((dequantize(q) - w).abs() <= scales / 2 * 1.0001 + 1e-7).all())
    assert int(q.codes.abs().amax()) <= 2 ** (bits - 1) - 1
    assert q.scales.shape == (shape[0], -(-shape[1] // group))


def test_more_bits_and_smaller_groups_err_less() -> None:
    w = torch.randn(16, 256, generator=torch.Generator().manual_seed(2))

    def error(bits: int, group: int) -> float:
        return float((dequantize(quantize(w, bits, group)) - w).norm())

    assert error(8, 64) < error(4, 64) / 8
    assert error(4, 16) < error(4, 256)


def test_representable_weights_come_back_exactly() -> None:
    w = torch.randint(-7, 8, (6, 40)).float() * 0.5
    w[:, 0] = 3.5
    assert torch.equal(dequantize(quantize(w, 4, 40)), w)


def test_zeros_stay_zeros() -> None:
    assert torch.equal(dequantize(quantize(torch.zeros(3, 9), 8, 4)), torch.zeros(3, 9))


@pytest.mark.parametrize("width", [1, 2, 7, 64])
def test_packing_halves_and_returns(width: int) -> None:
    codes = torch.randint(-8, 8, (5, width), dtype=torch.int8)
    packed = pack4(codes)
    assert packed.shape == (5, (width + 1) // 2)
    assert torch.equal(unpack4(packed, width), codes)


@pytest.mark.parametrize(
    ("w", "bits", "group", "said"),
    [
        (torch.ones(4), 8, 4, r"\[4\]"),
        (torch.ones(0, 4), 8, 4, r"\[0, 4\]"),
        (torch.ones(2, 4), 5, 4, "bits 5"),
        (torch.ones(2, 4), 8, 0, "group 0"),
        (torch.tensor([[1.0, float("inf")]]), 8, 4, "not finite"),
    ],
)
def test_bad_input_is_refused(w: torch.Tensor, bits: int, group: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quantize(w, bits, group)


def test_codes_out_of_range_are_not_packed() -> None:
    with pytest.raises(ValueError, match="pack4"):
        pack4(torch.tensor([[8]], dtype=torch.int8))
    with pytest.raises(ValueError, match="unpack4"):
        unpack4(torch.zeros(2, 2, dtype=torch.uint8), 9)
