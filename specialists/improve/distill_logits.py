"""Logit distillation, on the teacher's answers or on the student's own (GKD; Agarwal et al., 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ..tokenizing import ChatCodec
from .answering import batches
from .crew import crew
from .distill import student_pass
from .divergence import Divergence, divergence
from .finetune import Batch, Row, collate
from .teachers import ModelTeacher


@dataclass
class LogitLoss:
    """The divergence from one teacher on a batch; ``on_policy`` of the steps read the student's own answers.

    Which steps do, and what is sampled in them, is a function of the seed and the step alone.
    """

    student: PreTrainedModel
    teacher: ModelTeacher
    codec: ChatCodec
    kind: Divergence
    beta: float = 0.5
    temperature: float = 1.0
    on_policy: float = 0.0
    longest: int = 64
    seed: int = 0

    def __call__(self, batch: Batch, step: int) -> Tensor:
        """Return the loss of one batch."""
        if np.random.default_rng([self.seed, step, 9]).random() < self.on_policy:
            batch = self._own(batch, step)
        _, logits = student_pass(self.student, batch)
        wanted = self.teacher.logits(batch)
        value = divergence(logits, wanted, self.kind, self.beta, self.temperature)
        return crew().mean(value, batch.loss.sum())

    def _own(self, batch: Batch, step: int) -> Batch:
        """The batch's prompts with answers sampled from the student as it is now."""
        width = batch.prompt.shape[1]
        real = batch.mask[:, :width].sum(1).tolist()
        prompts = [tuple(row[width - n :].tolist()) for row, n in zip(batch.prompt, real, strict=True)]
        # each of several processes draws its own samples
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step + (crew().rank << 40))
        was = self.student.training
        self.student.train(False)
        rows = sampled(self.student, prompts, self.codec, self.longest, generator)
        self.student.train(was)
        return collate(rows, len(self.codec.invocation), self.student.device)


@torch.no_grad()
def sampled(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    codec: ChatCodec,
    longest: int,
    generator: torch.Generator,
) -> list[Row]:
    """Sample one answer (temperature 1) to each prompt; one cut at ``longest`` tokens has no end token."""
    out: list[Row | None] = [None] * len(prompts)
    for group in batches([len(p) for p in prompts], len(prompts)):
        answers = _sample(model, [prompts[i] for i in group], codec, longest, generator)
        for i, answer in zip(group, answers, strict=True):
            out[i] = Row(prompts[i], (*codec.invocation, *answer))
    return [row for row in out if row is not None]


def _sample(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    codec: ChatCodec,
    longest: int,
    generator: torch.Generator,
) -> list[list[int]]:
    cache = DynamicCache(config=model.config)
    tokens = torch.tensor([[*p, *codec.invocation] for p in prompts], device=model.device)
    drawn: list[Tensor] = []
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(longest):
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        drawn.append(torch.multinomial(logits[:, -1].float().softmax(-1).cpu(), 1, generator=generator)[:, 0])
        tokens = drawn[-1][:, None].to(tokens.device)
        ended |= drawn[-1] == codec.end
        if ended.all():
            break
    rows = torch.stack(drawn, 1).tolist()
    return [r[: r.index(codec.end) + 1] if codec.end in r else r for r in rows]
