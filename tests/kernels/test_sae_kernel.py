"""SAE kernels against plain loops, at awkward sizes."""

import pytest
import torch

from pilothouse.kernels.dispatch import Backend
from pilothouse.kernels.sae import (
    Subset,
    decode,
    decode_topk,
    encode_jumprelu,
    encode_subset,
    encode_topk,
    topk,
)


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


@pytest.mark.parametrize("latents", [64, 513, 1000])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_fast_topk_is_the_plain_one(latents: int, k: int) -> None:
    enc, bias, _ = weights(7, latents)
    x = torch.randn(5, 7)
    values, indices = encode_topk(x, enc, bias, k, "fast")
    wanted, where = encode_topk(x, enc, bias, k, "plain")
    assert torch.equal(values, wanted)
    assert torch.equal(indices, where)


def test_topk_of_ties_keeps_their_number() -> None:
    """With equal values any of them may be named, each once."""
    x = torch.zeros(2, 600)
    x[:, ::7] = 1.0
    values, indices = topk(x, 20)
    assert torch.equal(values, torch.ones(2, 20))
    assert all(len(set(row)) == 20 for row in indices.tolist())
    assert torch.equal(x.gather(1, indices), values)


@pytest.mark.parametrize("backend", ["plain", "fast"])
def test_negative_thresholds_let_no_negative_through(backend: Backend) -> None:
    enc, bias, threshold = weights(7, 130)
    got = encode_jumprelu(torch.randn(9, 7), enc, bias, threshold - 5, backend)
    assert float(got.min()) == 0.0


def test_fast_paths_are_the_plain_ones() -> None:
    enc, bias, threshold = weights(65, 130)
    x, dec, b_dec = torch.randn(9, 65), torch.randn(130, 65), torch.randn(65)
    fast, plain = (encode_jumprelu(x, enc, bias, threshold, way) for way in ("fast", "plain"))
    assert torch.equal(fast, plain)
    values, indices = encode_topk(x, enc, bias, 5)
    torch.testing.assert_close(
        decode_topk(values, indices, dec, b_dec, "fast"), decode_topk(values, indices, dec, b_dec, "plain")
    )


def test_a_subset_is_copied_once() -> None:
    enc, bias, threshold = weights(65, 130)
    features = torch.tensor([129, 0, 7])
    some = Subset.of(enc, bias, threshold, features)
    assert some.weight.shape == (3, 65)
    assert some.weight.is_contiguous()
    x = torch.randn(4, 65)
    torch.testing.assert_close(some.encode(x), encode_jumprelu(x, enc, bias, threshold)[:, features])


@pytest.mark.parametrize("features", [torch.tensor([130]), torch.tensor([-1])])
def test_a_feature_outside_the_encoder_is_refused(features: torch.Tensor) -> None:
    enc, bias, threshold = weights(7, 130)
    with pytest.raises(ValueError, match="latents 0 to 129"):
        Subset.of(enc, bias, threshold, features)


def test_mixed_types_are_refused() -> None:
    enc, bias, _ = weights(7, 20)
    with pytest.raises(ValueError, match=r"x bfloat16, w_enc float32"):
        encode_topk(torch.ones(2, 7, dtype=torch.bfloat16), enc, bias, 3)
    with pytest.raises(ValueError, match=r"indices is int32 \[2, 1\]; it must be int64 \[2, 1\]"):
        decode_topk(torch.ones(2, 1), torch.ones(2, 1, dtype=torch.int32), enc, torch.ones(20))


@pytest.mark.parametrize("backend", ["plain", "fast"])
def test_gradients_pass(backend: Backend) -> None:
    enc, bias, _ = weights(7, 130)
    enc.requires_grad_()
    values, indices = encode_topk(torch.randn(3, 7), enc, bias, 2, backend)
    out = decode_topk(values, indices, torch.randn(130, 7), torch.zeros(7), backend)
    assert bool(torch.autograd.grad(out.sum(), enc)[0].any())
