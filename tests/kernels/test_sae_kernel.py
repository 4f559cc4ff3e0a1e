"""SAE kernels against plain loops, at awkward sizes."""

import pytest
import torch

from pilothouse.kernels.sae import decode, decode_topk, encode_jumprelu, encode_subset, encode_topk


def weights(width: int, latents: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7 * width + latents)
    enc = torch.randn(width, latents, generator=generator)
    return enc, torch.randn(latents, generator=generator), torch.rand(latents, generator=generator)


@pytest.mark.parametrize("width", [1, 7, 65])
@pytest.mark.parametrize("latents", [1, 13, 130])
def test_jumprelu_is_its_definition(width: int, latents: int) -> None:
    enc, bias, threshold = weights(width, latents)
    x = torch.randn(5, width)
    got = encode_jumprelu(x, enc, bias, threshold)
    for b in range(5):
        for s in range(latents):
            pre = float(x[b] @ enc[:, s] + bias[s])
            wanted = pre if pre > float(threshold[s]) else 0.0
            assert got[b, s].item() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("width", [1, 7, 65])
def test_subset_is_those_columns(width: int) -> None:
    enc, bias, threshold = weights(width, 40)
    x, features = torch.randn(6, width), torch.tensor([39, 0, 17])
    whole = encode_jumprelu(x, enc, bias, threshold)
    torch.testing.assert_close(encode_subset(x, enc, bias, threshold, features), whole[:, features])


def test_topk_keeps_the_largest_and_never_a_negative() -> None:
    enc, bias, _ = weights(7, 20)
    x = torch.randn(30, 7)
    values, indices = encode_topk(x, enc, bias, 20)
    pre = (x @ enc + bias).relu()
    torch.testing.assert_close(values, pre.sort(dim=1, descending=True).values)
    torch.testing.assert_close(pre.gather(1, indices), values)
    assert float(values.min()) == 0.0


def test_sparse_decode_equals_dense() -> None:
    enc, bias, _ = weights(65, 130)
    x, dec, b_dec = torch.randn(9, 65), torch.randn(130, 65), torch.randn(65)
    values, indices = encode_topk(x, enc, bias, 5)
    dense = torch.zeros(9, 130).scatter_(1, indices, values)
    torch.testing.assert_close(decode_topk(values, indices, dec, b_dec), decode(dense, dec, b_dec))


def test_misfits_are_refused() -> None:
    enc, bias, threshold = weights(7, 20)
    with pytest.raises(ValueError, match="transpose"):
        encode_jumprelu(torch.ones(2, 7), enc.T, bias, threshold)
    with pytest.raises(ValueError, match="transpose"):
        decode(torch.ones(2, 20), enc, torch.ones(7))
    for k in (0, 21):
        with pytest.raises(ValueError, match=f"k is {k}"):
            encode_topk(torch.ones(2, 7), enc, bias, k)
