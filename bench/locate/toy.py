"""The small models that benches train, and the loop that trains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

RATE = 3e-3
NO_SPECIALS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def untaught(seed: int, kind: str = "Llama", **shape: Any) -> Any:
    """A causal language model drawn by `seed`; `shape` goes to the `kind`'s configuration.

    No output matrix tied to the embedding and no special tokens, unless `shape` says so.
    """
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**({"tie_word_embeddings": False} | NO_SPECIALS | shape))
    made: Any = getattr(transformers, f"{kind}ForCausalLM")(config)
    return made.eval()


def taught(
    model: Any,
    steps: int,
    loss_of: Callable[[int], Tensor],
    warmup: int,
    decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    fall: float = 2.0,
) -> Any:
    """Take `steps` of AdamW down `loss_of(step)`; return the model, frozen.

    The rate rises over `warmup` steps and falls to 0 in a line, over the last 1/`fall` of them; `decay` is of
    weights.
    """
    learning = [one for one in model.train().parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=RATE, betas=betas, weight_decay=decay)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / warmup) * min(1, fall * (1 - step / steps))
        loss = loss_of(step)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model.eval().requires_grad_(False)
