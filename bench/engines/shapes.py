"""The shapes that engines are measured on, with random weights: speed does not depend on what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Shape:
    """A decoder by its sizes; `tokens` is how many are generated in one measurement, by batch size."""

    name: str
    short: str
    config: dict[str, Any]
    tokens: dict[int, int]
    rounds: int


def _qwen2(width: int, layers: int, heads: int, inner: int, vocabulary: int, theta: float) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 1024,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": True,
    }


SHAPES = (
    Shape("starter (12 M)", "12M", _qwen2(320, 8, 10, 960, 6144, 1e4), {1: 48, 8: 24, 32: 12}, 9),
    Shape("30 M", "30M", _qwen2(384, 8, 6, 2304, 16384, 1e4), {1: 32, 8: 16, 32: 8}, 7),
    Shape("Qwen2.5-0.5B", "0.5B", _qwen2(896, 24, 14, 4864, 151936, 1e6), {1: 12, 8: 6, 32: 3}, 5),
)


def make_folder(shape: Shape, folder: Path, seed: int) -> int:
    """Write a Hugging Face folder of random bf16 weights; return the number of parameters."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    with torch.device("meta"):
        blank: Any = Qwen2ForCausalLM(
            Qwen2Config(**shape.config, bos_token_id=1, eos_token_id=2, pad_token_id=0)
        )
    model: Any = blank.to(torch.bfloat16).to_empty(device="cpu")
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.fill_(1.0)
        else:
            parameter.data.normal_(0.0, 0.02, generator=draw)
    model.tie_weights()
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())
