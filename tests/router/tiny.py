"""Tiny random decoders of every supported kind, built from their configurations; and planted data."""

from functools import cache
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY, WIDTH, LAYERS = 96, 32, 3
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_GROUPED),
    "qwen2": Qwen2Config(**{**_COMMON, "num_key_value_heads": 2}),
    "qwen3": Qwen3Config(**_GROUPED),
    "gemma2": Gemma2Config(**_GROUPED),
    "gemma3_text": Gemma3TextConfig(**_GROUPED),
    "mistral": MistralConfig(**_GROUPED),
    "phi": PhiConfig(**_COMMON),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "gpt_neox": GPTNeoXConfig(**_COMMON),
}
FINAL_NORM = {
    "gpt2": "transformer.ln_f",
    "gpt_neox": "gpt_neox.final_layer_norm",
    "phi": "model.final_layernorm",
}


@cache
def model(kind: str = "qwen3") -> Any:
    """A frozen random decoder; the same object every time."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[kind]).eval().requires_grad_(False)


def prompt(tokens: int = 11, rows: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def planted(
    count: int, width: int, atoms: int, active: int, seed: int = 0, noise: float = 0.01
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (atoms [A,D] of unit length, codes [N,A], states [N,D]): sparse sums of known directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(atoms, width, generator=generator))
    chosen = torch.rand(count, atoms, generator=generator).topk(active, 1).indices
    strength = torch.rand(count, active, generator=generator) + 0.5
    codes = torch.zeros(count, atoms).scatter_(1, chosen, strength)
    return directions, codes, codes @ directions + noise * torch.randn(count, width, generator=generator)
