"""The fused SAE kernels against their plain twins."""

import pytest
import torch

from pilothouse.kernels.sae import Subset, decode_topk, encode_jumprelu, encode_topk

SIZES = [(1, 1, 1), (3, 7, 130), (17, 65, 19)]


def made(rows: int, width: int, latents: int, device: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(rows + 10 * width + 100 * latents)
    shapes = ((rows, width), (width, latents), (latents,))
    x, w, b = (torch.randn(*shape, generator=generator).to(device) for shape in shapes)
    return x, w, b, torch.rand(latents, generator=generator).to(device)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("transposed", [False, True])
def test_jumprelu(triton_device: str, size: tuple[int, int, int], transposed: bool) -> None:
    x, w, b, threshold = made(*size, triton_device)
    w = w.T.contiguous().T if transposed else w
    got = encode_jumprelu(x, w, b, threshold, "triton")
    torch.testing.assert_close(got, encode_jumprelu(x, w, b, threshold, "plain"), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("latents", "k"), [(1, 1), (130, 3), (133, 1), (40, 40)])
def test_topk(triton_device: str, latents: int, k: int) -> None:
    """With groups (130 and 133 latents, the last group short) and without."""
    x, w, b, _ = made(5, 7, latents, triton_device)
    values, indices = encode_topk(x, w, b, k, "triton")
    wanted, where = encode_topk(x, w, b, k, "plain")
    torch.testing.assert_close(values, wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(indices, where)


def test_topk_of_negative_latents_names_no_padding(triton_device: str) -> None:
    x, w, b, _ = made(2, 4, 133, triton_device)
    values, indices = encode_topk(x, w, b - 1000, 3, "triton")
    assert not bool(values.any())
    assert int(indices.max()) < 133


def test_subset(triton_device: str) -> None:
    x, w, b, threshold = made(3, 65, 130, triton_device)
    features = torch.tensor([129, 0, 64], device=triton_device)
    got = Subset.of(w, b, threshold, features).encode(x, "triton")
    torch.testing.assert_close(got, encode_jumprelu(x, w, b, threshold, "plain")[:, features])


@pytest.mark.parametrize("width", [1, 65, 300])
def test_sparse_decode(triton_device: str, width: int) -> None:
    x, w, b, _ = made(3, 7, 40, triton_device)
    values, indices = encode_topk(x, w, b, 5, "plain")
    dec, bias = torch.randn(40, width, device=triton_device), torch.randn(width, device=triton_device)
    got = decode_topk(values, indices, dec, bias, "triton")
    torch.testing.assert_close(got, decode_topk(values, indices, dec, bias, "plain"), atol=1e-5, rtol=1e-5)


def test_a_foreign_index_spoils_its_own_row_only(triton_device: str) -> None:
    indices = torch.tensor([[0, 1], [0, 9]], device=triton_device)
    ones = torch.ones(2, 2, device=triton_device)
    got = decode_topk(
        ones, indices, torch.ones(3, 4, device=triton_device), torch.zeros(4, device=triton_device), "triton"
    )
    assert got[0].tolist() == [2.0] * 4
    assert bool(got[1].isnan().all())


def test_no_rows(triton_device: str) -> None:
    x, w, b, threshold = made(0, 7, 40, triton_device)
    assert encode_jumprelu(x, w, b, threshold, "triton").shape == (0, 40)
    assert encode_topk(x, w, b, 2, "triton")[0].shape == (0, 2)
