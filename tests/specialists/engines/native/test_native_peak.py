"""The likeliest token and its logarithm, at vocabularies that end within a vector, and where tokens tie."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pilothouse.specialists.engines.native import library as lib
from pilothouse.specialists.engines.native.model import Context, NativeModel
from pilothouse.specialists.engines.native.run import Run

WIDTH = 16


def _model(folder: Path, vocabulary: int, repeated: int, kernels: str) -> NativeModel:
    """Weights of fp32 whose output rows repeat every ``repeated`` tokens, so that every logit ties."""
    torch.manual_seed(vocabulary)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **sizes))
    rows = torch.arange(vocabulary) % repeated
    model.lm_head.weight.data = model.lm_head.weight.data[rows]
    model.save_pretrained(folder)
    return NativeModel(Context(1, kernels), folder)


@pytest.mark.parametrize("kernels", lib.kernels())
@pytest.mark.parametrize("vocabulary", [3, 15, 16, 17, 37, 65, 130])
def test_of_tokens_that_tie_the_first_is_drawn(tmp_path: Path, vocabulary: int, kernels: str) -> None:
    repeated = max(2, vocabulary // 3)
    model = _model(tmp_path / "model", vocabulary, repeated, kernels)
    drawn = set()
    for token in range(min(vocabulary, 24)):
        run = Run(model.sequence(), (token,), draw=True, want_logits=True)
        model.step([run])
        assert run.logits is not None
        best = run.logits.max()
        assert run.token == int((run.logits == best).nonzero()[0])  # argmax does not promise the first
        assert run.token < repeated
        assert run.logprob == pytest.approx(float(run.logits.log_softmax(-1).max()), abs=1e-5)
        drawn.add(run.token)
    assert len(drawn) > 1  # else the place of the peak was never put to the test
