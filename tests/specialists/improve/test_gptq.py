"""GPTQ: without correlations it is rounding; with them it loses less of what the map computes."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pilothouse.kernels.quant import dequantize
from pilothouse.specialists.improve.gptq import calibrate, gptq
from pilothouse.specialists.improve.groups import encode


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("width", [32, 21])
def test_uncorrelated_inputs_make_it_rounding(bits: int, width: int) -> None:
    w = normal(6, width) * 0.1
    found, plain = gptq(w, torch.eye(width) * 3, bits, 8), encode(w, bits, 8)
    assert torch.equal(found.codes, plain.codes)
    torch.testing.assert_close(found.scales, plain.scales)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_correlated_inputs_are_used(bits: int) -> None:
    x = normal(400, 4) @ normal(4, 32, seed=1) + 0.1 * normal(400, 32, seed=2)
    w = normal(24, 32, seed=3) * 0.1

    def error(q: torch.Tensor) -> float:
        return float((x @ (w - q).T).square().mean())

    ours = error(dequantize(gptq(w, x.T @ x, bits, 8)))
    plain = error(dequantize(encode(w, bits, 8)))
    assert ours < 0.7 * plain


def test_a_model_is_calibrated_layer_by_layer_and_given_back() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    rows = [torch.randint(0, 40, (4, 24), generator=torch.Generator().manual_seed(1))]
    before = {n: p.clone() for n, p in model.named_parameters()}
    names = [n for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    codes = calibrate(model, rows, dict.fromkeys(names, 3), 16)
    assert sorted(codes) == sorted(names)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    exact = model(rows[0]).logits.log_softmax(-1)

    def divergence(made: dict[str, torch.Tensor]) -> float:
        model.load_state_dict(before | made)
        found = model(rows[0]).logits.log_softmax(-1)
        return float((exact.exp() * (exact - found)).sum(-1).mean())

    ours = divergence({n: dequantize(q) for n, q in codes.items()})
    plain = divergence({n: dequantize(encode(before[n], 3, 16)) for n in names})
    assert ours < 0.9 * plain
    with pytest.raises(ValueError, match="second moment"):
        gptq(normal(3, 4), torch.eye(5), 4, 4)
