"""Texts that a model writes itself, from nothing: what a FaithfulSAE is trained on (Cho et al., 2025).

A dictionary trained on text that the model would not write spends latents on what the model does not know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...store.errors import UsageError

ROWS = 32


@torch.no_grad()
def own_texts(
    model: Any,
    start: int,
    count: int,
    length: int,
    seed: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    repetition: float = 1.1,
    stop: int | None = None,
) -> list[list[int]]:
    """Return `count` rows of up to `length` tokens that the model wrote after the token `start` (its BOS).

    `repetition` > 1 makes tokens that were written less likely (Keskar et al., 2019). Deterministic in
    `seed`. Raises UsageError for settings out of range.
    """
    if min(count, length) < 1 or temperature <= 0 or not 0 < top_p <= 1 or repetition < 1:
        raise UsageError(
            f"count {count}, length {length}, temperature {temperature}, top_p {top_p}, repetition "
            f"{repetition}: "
            "counts are at least 1, temperature above 0, top_p within 0 and 1, repetition at least 1"
        )
    generator = torch.Generator().manual_seed(seed)
    rows: list[list[int]] = []
    while len(rows) < count:
        ids = torch.full((min(ROWS, count - len(rows)), 1), start)
        cache: Any = None
        new = ids.to(next(model.parameters()).device)
        for _ in range(length - 1):
            out = model(new, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits = _penalised(out.logits[:, -1].float().cpu(), ids, repetition) / temperature
            token = torch.multinomial(_nucleus(logits.softmax(-1), top_p), 1, generator=generator)
            ids = torch.cat([ids, token], 1)
            new = token.to(new.device)
        rows += [_until(row, stop) for row in ids.tolist()]
    return rows


def _penalised(logits: Tensor, seen: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return logits
    old = logits.gather(1, seen)
    return logits.scatter(1, seen, torch.where(old > 0, old / factor, old * factor))


def _nucleus(p: Tensor, top: float) -> Tensor:
    """Keep the smallest set of tokens with a total probability of at least `top`."""
    if top >= 1:
        return p
    ordered, order = p.sort(-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top
    return torch.zeros_like(p).scatter(1, order, ordered.masked_fill(outside, 0))


def _until(row: list[int], stop: int | None) -> list[int]:
    return row[: row.index(stop, 1) + 1] if stop is not None and stop in row[1:] else row


@torch.no_grad()
def first_token_gap(model: Any, start: int, rows: Sequence[Sequence[int]]) -> float:
    """Return KL(first tokens of the rows || the model's distribution after `start`), in nats: how far the
    rows are from what the model writes. It falls to 0 as rows are added.
    """
    counts = Counter(row[1] for row in rows if len(row) > 1)
    if not counts:
        raise UsageError("no row has a second token; give rows that the model wrote")
    device = next(model.parameters()).device
    log_p = model(torch.tensor([[start]], device=device)).logits[0, -1].float().log_softmax(-1).cpu()
    total = sum(counts.values())
    return sum(
        n / total * (float(torch.tensor(n / total).log()) - float(log_p[token]))
        for token, n in counts.items()
    )


def random_rows(vocabulary: int, count: int, length: int, seed: int) -> list[list[int]]:
    """Uniformly random tokens: input that no model writes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (count, length), generator=generator).tolist()
