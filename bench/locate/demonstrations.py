"""A toy that learns from demonstrations: `item label item label … item` is answered with the label of its
kind.

Items of the same kind are near in meaning only because training says so. Which label stands for which kind is
drawn anew in each sequence, so the answer must come from the context. Training plants two habits: items are
blurred, and kinds uneven in the demonstrations and in what is asked alike (a majority bias); and in some
sequences the labels change places midway (a recency bias). The tests ask evenly, blur nothing, and never
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...router.locate.case import Case
from .toy import taught, untaught

KINDS, EACH, SHOWN = 4, 5, 8
LABELS = (0, 1)
FIRST = 2  # token of the first item
VOCABULARY = FIRST + KINDS * EACH
LAYERS, HEADS, SIZE, WIDTH = 4, 16, 8, 64
NOISE, BLUR, SWITCH = 0.1, 0.25, 0.4
PRICE = 4e-3  # a length of what a head can write: few heads carry the task


def trained(seed: int, steps: int, batch: int = 64) -> Any:
    """A small Llama, trained for `steps`; heads pay for what they write, so that few carry the task."""
    model = untaught(
        seed,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        head_dim=SIZE,
        max_position_embeddings=64,
    )
    generator = torch.Generator().manual_seed(seed)

    def loss_of(step: int) -> Tensor:
        rows, answers = lessons(batch, generator)
        logits = model(rows).logits[:, 4::2]  # every item but the first two asks for its label
        wanted = torch.cat([rows[:, 5::2], answers[:, None]], 1)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        # the price comes in while the task is learnt: asked in full from the start, some seeds never learn it
        paid = PRICE * min(1, 2 * step / steps)
        return loss + paid * sum(_lengths(layer).sum() for layer in model.model.layers)

    return taught(model, steps, loss_of, warmup=50, decay=0.05)


def _lengths(layer: Any) -> Tensor:
    """The size of what each head can write: a group lasso on heads."""
    weight = layer.self_attn.o_proj.weight
    return torch.as_tensor(weight.view(WIDTH, HEADS, SIZE).square().sum((0, 2)).add(1e-8).sqrt())


def _items(kinds: Tensor, generator: torch.Generator, blur: float = 0.0) -> Tensor:
    blurred = torch.rand(kinds.shape, generator=generator) < blur
    kinds = torch.where(blurred, torch.randint(KINDS, kinds.shape, generator=generator), kinds)
    return FIRST + kinds * EACH + torch.randint(EACH, kinds.shape, generator=generator)


def lessons(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return sequences [N, 2*SHOWN+1] that end with the item that is asked, and its labels [N]."""
    pair = torch.rand(count, KINDS, generator=generator).topk(2, 1).indices  # which kinds have labels 0 and 1
    share = torch.rand(count, 1, generator=generator)
    which = (torch.rand(count, SHOWN + 1, generator=generator) < share).long()
    items = _items(pair.gather(1, which), generator, BLUR)
    switched = torch.rand(count, 1, generator=generator) < SWITCH
    at = torch.randint(2, SHOWN, (count, 1), generator=generator)
    labels = which ^ (switched & (torch.arange(SHOWN + 1) >= at)).long()
    wrong = torch.rand(count, SHOWN, generator=generator) < NOISE
    shown = labels[:, :SHOWN] ^ wrong.long()
    rows = torch.stack([items[:, :SHOWN], shown], 2).flatten(1)
    return torch.cat([rows, items[:, SHOWN:]], 1), labels[:, SHOWN]


def asked(count: int, seed: int, major: int = SHOWN // 2, order: str = "drawn") -> list[Case]:
    """Prompts with `major` demonstrations of one label and the rest of the other; what is asked is of either
    kind equally often. `order`: drawn; or where the right label's demonstrations stand (`ORDERS`).
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        pair = torch.randperm(KINDS, generator=generator)[:2]
        common = int(torch.randint(2, (1,), generator=generator))
        right = common ^ (index % 2)
        which = torch.tensor([common] * major + [1 - common] * (SHOWN - major))
        which = which[torch.randperm(SHOWN, generator=generator)]
        if order != "drawn":
            which = _ordered(which, right, order)
        items = _items(pair[torch.cat([which, torch.tensor([right])])], generator)
        ids = torch.cat([torch.stack([items[:-1], which], 1).flatten(), items[-1:]]).tolist()
        found.append(Case(tuple(ids), right, 1 - right))
    return found


ORDERS = ("first", "last", "even", "odd", "inside", "outside")


def _ordered(which: Tensor, right: int, order: str) -> Tensor:
    """Labels [SHOWN] with those of the right answer at the places that `order` says."""
    ranks = {
        "first": list(range(SHOWN)),
        "last": list(range(SHOWN))[::-1],
        "even": sorted(range(SHOWN), key=lambda at: (at % 2, at)),
        "odd": sorted(range(SHOWN), key=lambda at: (1 - at % 2, at)),
        "inside": sorted(range(SHOWN), key=lambda at: abs(2 * at - SHOWN + 1)),
        "outside": sorted(range(SHOWN), key=lambda at: -abs(2 * at - SHOWN + 1)),
    }[order]
    count = int((which == right).sum())
    found = torch.full_like(which, 1 - right)
    found[ranks[:count]] = right
    return found


@torch.no_grad()
def answers(model: Any, cases: Sequence[Case]) -> Tensor:
    """Logits [N,V] of the last token, cases of one length."""
    return torch.as_tensor(model(torch.tensor([case.ids for case in cases])).logits[:, -1])


def accuracy(logits: Tensor, cases: Sequence[Case]) -> float:
    """Share of cases whose answer leads."""
    return float((logits.argmax(-1) == torch.tensor([case.answer for case in cases])).float().mean())
