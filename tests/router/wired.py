"""A random tiny decoder with one direction that decides which token it says, and a dictionary that knows it.

The model says `RIGHT` at a token whose stream after layer 1 has more than a bit of direction 0, and `WRONG`
otherwise; direction 1 … are decoys that do nothing. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pilothouse.router.features.sae import SAE
from pilothouse.router.steer.task import Task, Verdict

WIDTH, FEATURES = 16, 10
END, WRONG, RIGHT, HINT, PLAIN = 0, 1, 2, 3, 4
VOCABULARY = 12


def wired(seed: int = 0) -> Any:
    """Two silent layers; token 3 carries direction 0, the others decoys."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=False,
    )
    made: Any = LlamaForCausalLM(config)
    model = made.eval().requires_grad_(False)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    table, head = model.model.embed_tokens.weight, model.lm_head.weight
    table.zero_()
    head.zero_()
    table[HINT, 0] = 2.0
    table[PLAIN:, 15] = 1.0
    for token in range(PLAIN, VOCABULARY):
        table[token, 1 + token - PLAIN] = 1.0
    table[HINT, 15] = 1.0
    table[RIGHT, 14] = table[WRONG, 14] = 2.0
    head[RIGHT, 0], head[WRONG, 15] = 1.0, 0.6
    head[END, 14] = 2.0
    return model


def dictionary(layer: int = 0) -> SAE:
    """Feature j reads and writes axis j."""
    axes = torch.eye(WIDTH)[:FEATURES]
    return SAE(
        W_enc=axes.T.contiguous(),
        b_enc=torch.zeros(FEATURES),
        W_dec=axes,
        b_dec=torch.zeros(WIDTH),
        threshold=torch.full((FEATURES,), 0.1),
        meta={"layer": layer, "fingerprint": "", "model_name": "wired"},
    )


def task(prompts: Sequence[tuple[int, ...]], longest: int = 3) -> Task:
    """Every answer should be RIGHT; WRONG and RIGHT are valid."""

    def judge(row: int, tokens: Sequence[int]) -> Verdict:
        return Verdict(tuple(tokens) == (RIGHT,), tuple(tokens) in ((RIGHT,), (WRONG,)))

    return Task(tuple(prompts), judge, END, longest)


def prompts(count: int, hinted: float, seed: int = 0) -> list[tuple[int, ...]]:
    """Prompts of 2 or 3 tokens that end with HINT at this share, else with a decoy."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for i in range(count):
        decoys = torch.randint(PLAIN, VOCABULARY, (2 + i % 2,), generator=generator).tolist()
        hint = float(torch.rand((), generator=generator)) < hinted
        found.append((*decoys[:-1], HINT if hint else decoys[-1]))
    return found
