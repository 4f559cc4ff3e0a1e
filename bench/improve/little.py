"""Little decoders that learn in a minute: bytes of the starter's own examples, and any rows of token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...router.denormals import as_zero
from ...specialists.starter.skills import arithmetic, helpdesk
from ...specialists.starter.skills.example import Split

BYTES = 256


def decoder(
    vocabulary: int, width: int, layers: int, seed: int, feed: int | None = None, length: int = 160
) -> Any:
    """A Llama with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=feed or 11 * width // 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=length,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def text(split: Split, rows: int, seed: int) -> str:
    """Examples of the starter's skills that need no data folder, as plain lines."""
    found = [row for skill in (arithmetic, helpdesk) for row in skill.examples(split, rows // 2, seed, None)]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
    return "".join(f"{found[i].prompt}\n{found[i].answer}\n\n" for i in order)


def windows(stream: str, length: int) -> Tensor:
    """Cut a text into rows of bytes [N, length]."""
    data = torch.tensor(list(stream.encode()), dtype=torch.long)
    return data[: len(data) // length * length].view(-1, length)


Batch = Callable[[int], tuple[Tensor, Tensor | None]]


@as_zero()
def train(
    model: Any, batch: Batch, steps: int, rate: float, decay: float = 0.01, trained: Sequence[Any] = ()
) -> Any:
    """Train in place with AdamW, a short warm-up and a linear fall. `batch(step)` gives ids [B,T] and the
    weight of each next token [B,T-1] (None: all alike).
    """
    model.train()
    parameters = list(trained) or list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, betas=(0.9, 0.95))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, (steps - step) / (0.5 * steps))
        loss = weighted_loss(model, *batch(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return model.eval()


def weighted_loss(model: Any, ids: Tensor, weights: Tensor | None) -> Tensor:
    """Mean next-token loss (nats) under weights [B,T-1]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    if weights is None:
        return losses.mean()
    flat = weights.flatten().to(losses)
    return (losses * flat).sum() / flat.sum()


@torch.no_grad()
def loss_on(model: Any, ids: Tensor, rows: int = 16) -> float:
    """Mean next-token loss (nats) on rows of ids [N,T]."""
    parts = [(float(weighted_loss(model, some, None)), len(some)) for some in torch.split(ids, rows)]
    return sum(value * n for value, n in parts) / len(ids)


def byte_model(layers: int, width: int, steps: int, seed: int) -> tuple[Any, Tensor]:
    """A decoder that learnt the starter's examples byte by byte, and held-out rows [N,128]."""
    rows = windows(text("train", 3000, seed), 128)
    generator = torch.Generator().manual_seed(seed)

    def batch(_step: int) -> tuple[Tensor, None]:
        return rows[torch.randint(0, len(rows), (12,), generator=generator)], None

    model = train(decoder(BYTES, width, layers, seed), batch, steps, 3e-3)
    return model.requires_grad_(False), windows(text("test", 300, seed), 128)[:48]
