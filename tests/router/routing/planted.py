"""Tables whose truth is known: P(correct) of every model is a known function of the states."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pilothouse.router.routing.seen import Seen
from pilothouse.router.routing.table import Table
from pilothouse.store.records import Message


class Planted(NamedTuple):
    table: Table
    seen: Seen
    p: Tensor


def table_of(texts: list[str], quality: Tensor, groups: tuple[str, ...] = ()) -> Table:
    """A table of prompts without costs."""
    nothing = torch.full_like(quality, torch.nan)
    turns = tuple((Message(role="user", content=text),) for text in texts)
    names = tuple(f"m{i}" for i in range(quality.shape[1]))
    return Table(turns, names, quality, nothing, nothing, groups)


def planted(
    rows: int = 400, models: int = 3, width: int = 12, strength: float = 3.0, seed: int = 0
) -> Planted:
    """Model m is right with sigmoid(strength (a_m . x)); the states are x and some noise columns."""
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=make)
    ability = torch.randn(width // 2, models, generator=torch.Generator().manual_seed(99))
    p = torch.sigmoid(strength * x[:, : width // 2] @ ability / (width / 2) ** 0.5)
    quality = (torch.rand(p.shape, generator=make) < p).float()
    groups = tuple(f"g{int(i)}" for i in x[:, 0].gt(0).long() + 2 * x[:, 1].gt(0).long())
    texts = [f"prompt {i} {group} of seed {seed}" for i, group in enumerate(groups)]
    signals = torch.stack([x[:, 0], x[:, 1]], 1)
    return Planted(table_of(texts, quality, groups), Seen(tuple(texts), x, signals, x.relu(), groups), p)
