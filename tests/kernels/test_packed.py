"""Packed weights: the layout to the bit, and every product equal to the dequantized one."""

import pytest
import torch

from pilothouse.kernels.dispatch import Backend
from pilothouse.kernels.packed import PLANES, Packed, dequantize, pack, quantize_range, unpack
from pilothouse.kernels.packed_linear import Int4, linear
from pilothouse.kernels.quant import dequantize as dequantize_codes
from pilothouse.kernels.quant import pack4, quantize

BITS = tuple(PLANES)
# N, O, I, group: single, ragged in everything, groups beyond the width, one token
SIZES = [(1, 1, 1, 1), (5, 19, 65, 32), (17, 70, 130, 48), (3, 2, 7, 100), (1, 33, 300, 64)]


def weights(outs: int, width: int) -> torch.Tensor:
    return torch.randn(outs, width, generator=torch.Generator().manual_seed(outs + width)) + 0.3


def both(outs: int, width: int, bits: int, group: int) -> list[Packed]:
    w = weights(outs, width)
    return [Packed.of(quantize(w, bits, group)), quantize_range(w, bits, group)]


# -- layout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("width", [1, 2, 7, 8, 65])
def test_packing_returns(bits: int, width: int) -> None:
    codes = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (5, width), dtype=torch.int8)
    planes = pack(codes, bits)
    assert [plane.shape[1] for plane in planes] == [-(-width * w // 8) for w in PLANES[bits]]
    assert torch.equal(unpack(planes, bits, width), codes)


@pytest.mark.parametrize("bits", BITS)
def test_a_field_lies_where_the_layout_says(bits: int) -> None:
    """The byte and the shift of every column, worked out apart from the packing."""
    codes = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (3, 21), dtype=torch.int8)
    planes = pack(codes, bits)
    for o, i in ((0, 0), (1, 5), (2, 20), (0, 13)):
        found, at = 0, 0
        for width, plane in zip(PLANES[bits], planes, strict=True):
            found |= (int(plane[o, i * width // 8]) >> (i * width % 8) & (2**width - 1)) << at
            at += width
        assert found == int(codes[o, i]) % 2**bits


def test_four_bits_are_those_of_pack4() -> None:
    codes = torch.randint(-8, 8, (5, 7), dtype=torch.int8)
    assert torch.equal(pack(codes, 4)[0], pack4(codes))


@pytest.mark.parametrize("bits", BITS)
def test_dequantized_is_what_was_quantized(bits: int) -> None:
    q = quantize(weights(5, 65), bits, 32)
    torch.testing.assert_close(dequantize(Packed.of(q)), dequantize_codes(q))
    assert Packed.of(q).nbytes == 5 * sum(-(-65 * w // 8) for w in PLANES[bits]) + 5 * 3 * 4


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", [1, 7, 32, 100])
def test_a_range_errs_by_half_a_step_at_most(bits: int, group: int) -> None:
    w = weights(6, 65)
    packed = quantize_range(w, bits, group)
    step = packed.scales.repeat_interleave(group, 1)[:, :65]
    assert bool(((dequantize(packed) - w).abs() <= step / 2 * 1.001 + 1e-6).all())


@pytest.mark.parametrize("bits", [2, 3])
def test_a_range_errs_less_than_symmetric_levels(bits: int) -> None:
    w = weights(16, 256)
    symmetric, ranged = (float((dequantize(one) - w).norm()) for one in both(16, 256, bits, 32))
    assert ranged < 0.8 * symmetric


def test_equal_weights_stay_equal() -> None:
    w = torch.full((2, 9), 3.5)
    assert torch.equal(dequantize(quantize_range(w, 2, 4)), w)


# -- products ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("backend", ["plain", "fast"])
def test_product_is_that_of_the_dequantized(size: tuple[int, ...], bits: int, backend: Backend) -> None:
    n, outs, width, group = size
    x = torch.randn(n, width)
    for packed in both(outs, width, bits, group):
        wanted = x @ dequantize(packed).T
        torch.testing.assert_close(linear(x, packed, backend), wanted, atol=1e-4, rtol=1e-4)


def test_fast_goes_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.kernels import packed_linear

    monkeypatch.setattr(packed_linear, "_BLOCK", 65 * 4)
    packed, x = both(19, 65, 3, 32)[1], torch.randn(5, 65)
    torch.testing.assert_close(linear(x, packed, "fast"), x @ dequantize(packed).T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1, 1, 32), (5, 19, 65, 32), (3, 40, 300, 128)])
@pytest.mark.parametrize("bits", BITS)
def test_the_operator_of_torch(size: tuple[int, ...], bits: int) -> None:
    n, outs, width, group = size
    x = torch.randn(n, width)
    for packed in both(outs, width, bits, group):
        wanted = x @ dequantize(packed).T
        torch.testing.assert_close(Int4.of(packed).linear(x), wanted, atol=1e-4, rtol=1e-4)
        half = Int4.of(packed, torch.bfloat16).linear(x.bfloat16())
        # bfloat16 rounds x, the scales and the result
        size_of_terms = x.abs() @ dequantize(packed).abs().T
        assert bool(((half.float() - wanted).abs() <= 0.02 * size_of_terms + 1e-3).all())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", BITS)
def test_triton(triton_device: str, size: tuple[int, ...], bits: int) -> None:
    n, outs, width, group = size
    x = torch.randn(n, width)
    for packed in both(outs, width, bits, group):
        wanted = x @ dequantize(packed).T
        got = linear(x.to(triton_device), packed.to(triton_device), "triton").cpu()
        torch.testing.assert_close(got, wanted, atol=2e-4, rtol=1e-4)


# -- bad input ---------------------------------------------------------------------------------------------


def test_misfits_are_refused() -> None:
    packed = both(4, 65, 4, 48)[0]
    for what, said in (
        (lambda: pack(torch.tensor([[4]], dtype=torch.int8), 3), "codes from 4 to 4 do not fit 3 bits"),
        (lambda: pack(torch.zeros(1, 1, dtype=torch.int8), 5), "5 bits have no layout"),
        (lambda: pack(torch.zeros(1, 1), 4), "codes is float32"),
        (lambda: quantize_range(torch.ones(2, 2) / 0, 4, 2), "finite"),
        (lambda: Packed(packed.planes, packed.scales, None, 4, 0, 65), "group 0"),
        (lambda: Packed(packed.planes, packed.scales, None, 3, 48, 65), "1 planes for 3 bits"),
        (lambda: Packed(packed.planes, packed.scales, None, 4, 48, 99), "a plane is uint8"),
        (lambda: Packed(packed.planes, packed.scales, packed.scales[:, :1], 4, 48, 65), "offsets is float32"),
        (lambda: linear(torch.ones(2, 64), packed), "x is float32"),
        (lambda: Int4.of(packed), "groups of 48"),
        (lambda: Int4.of(both(4, 65, 4, 32)[0]).linear(torch.ones(2, 65).bfloat16()), "repack"),
    ):
        with pytest.raises(ValueError, match=said):
            what()
