"""Greedy answers to many prompts at once, for measuring specialists: exact (no padding), batched by prompt
length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..models import empty_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ..lean import LeanDecoder

Switch = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Answered:
    """The tokens of one greedy answer (end token excluded), their mean log-probability in nats, and whether
    it ended.
    """

    tokens: tuple[int, ...]
    mean_logprob: float
    ended: bool


def batches(lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Yield index groups of equal length, at most ``rows`` each: equal lengths need no padding, so batch
    equals solo.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        groups[length].append(index)
    for _, members in sorted(groups.items()):
        for start in range(0, len(members), rows):
            yield members[start : start + rows]


@torch.inference_mode()
def answer_all(
    model: LeanDecoder | PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    invocation: int,
    end: int,
    max_tokens: int,
    active: Switch = nullcontext,
    rows: int = 64,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[Answered]:
    """Answer each prompt (token ids up to its end token) greedily.

    The prompt is read by the bare model; from the ``invocation`` token on, every forward pass runs inside
    ``active()``,
    which switches an adapter on (activated LoRA).
    """
    answered: list[Answered | None] = [None] * len(prompts)
    done = 0
    for group in batches([len(p) for p in prompts], rows):
        tokens = torch.tensor([list(prompts[i]) for i in group])
        cache = empty_cache(model)
        model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        with active():
            for row, result in zip(
                group, _decode(model, cache, len(group), invocation, end, max_tokens), strict=True
            ):
                answered[row] = result
        done += len(group)
        on_batch(done)
    return [a for a in answered if a is not None]


def _decode(model: Any, cache: Any, rows: int, invocation: int, end: int, max_tokens: int) -> list[Answered]:
    out: list[list[int]] = [[] for _ in range(rows)]
    logprob, ended = torch.zeros(rows), [False] * rows
    alive, current = torch.arange(rows), torch.full((rows, 1), invocation)
    for _ in range(max_tokens + 1):
        logits = (
            model(input_ids=current, past_key_values=cache, use_cache=True, logits_to_keep=1)
            .logits[:, -1]
            .float()
        )
        best, token = logits.log_softmax(-1).max(-1)
        logprob[alive] += best
        going = token != end
        for row, drawn in zip(alive.tolist(), token.tolist(), strict=True):
            ended[row] = drawn == end
            if drawn != end:
                out[row].append(drawn)
        if not going.any() or max(map(len, out)) >= max_tokens:
            break
        current = _keep(cache, token[:, None], going)
        alive = alive[going]
    counts = torch.tensor([max(1, len(o) + e) for o, e in zip(out, ended, strict=True)])
    means = (logprob / counts).tolist()
    return [Answered(tuple(o), m, e) for o, m, e in zip(out, means, ended, strict=True)]


def _keep(cache: Any, token: Tensor, going: Tensor) -> Tensor:
    """Drop finished rows from the batch: most answers are much shorter than the longest."""
    if not bool(going.all()):
        cache.batch_select_indices(going.nonzero()[:, 0])
    return token[going]
