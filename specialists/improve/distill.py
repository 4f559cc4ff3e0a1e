"""Distill a specialist (a trunk with an adapter) into a smaller model of its own with the same tokenizer.

Sequence-level: the student learns the teacher's own greedy answers (Kim and Rush, 2016). Token-level: at each
position it also matches the teacher's distribution, cut to its `top` likeliest tokens and one bucket for the
rest (Hinton et al., 2015, at temperature T, loss scaled by T^2). A student starts from some of the teacher's
layers (Sanh et al., 2019).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from ...router.taps import decoder_layers
from ..adapters import AdapterBank
from ..models import quiet
from .answering import answer_all
from .crew import crew
from .finetune import (
    Batch,
    Codec,
    Lesson,
    Order,
    Row,
    answer_logits,
    collate,
    head_logits,
    plain_attention,
    targets_of,
)
from .loop import Learning, learn, same_settings, warm_then_falling
from .pretrain import Sink


@dataclass(frozen=True)
class Distilling:
    """Schedule and loss: `soft` weighs the teacher's distribution against its answers, `prompt` the prompt's
    own tokens.

    `answers` is the longest teacher's answer that is learned, in tokens; longer ones are left out.

    """

    rows: int = 64
    steps: int = 1000
    rate: float = 1e-3
    warmup: int = 40
    soft: float = 0.7
    prompt: float = 0.0
    temperature: float = 2.0
    top: int = 64
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    every: int = 100
    answers: int = 64

    def rate_at(self, step: int) -> float:
        """Learning rate at `step`: linear warm-up, then linear fall to 0."""
        return self.rate * warm_then_falling(step, self.steps, self.warmup)


def shallow(teacher: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a student with the teacher's embeddings, head and these of its decoder layers (0-based, in
    order).

    Raises:
        ValueError: no layers, or one that the teacher lacks.

    """
    source = decoder_layers(teacher)
    if not layers or not all(0 <= i < len(source) for i in layers):
        raise ValueError(f"layers {list(layers)}: name at least one of 0 to {len(source) - 1}")
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in layers]
    student = type(teacher)(config)
    cast(Any, student).to(torch.float32)
    inner = {id(p) for p in source.parameters()}
    outer = {n: p for n, p in teacher.named_parameters() if id(p) not in inner}
    student.load_state_dict(outer, strict=False)
    for target, index in zip(decoder_layers(student), layers, strict=True):
        target.load_state_dict(source[index].state_dict())
    return student


def teach(
    bank: AdapterBank, name: str, codec: Codec, lessons: Sequence[Lesson], longest: int, say: Sink
) -> list[Row]:
    """Return the teacher's greedy answers as rows to learn; answers that did not end are left out.

    Raises:
        ValueError: the chat template calls for an answer with more than one token, which is not done yet.
    """
    invocation, prompts = codec.invocation, [codec.encode_prompt(e.prompt, e.history) for e in lessons]
    if len(invocation) != 1:
        raise ValueError(
            f"the invocation has {len(invocation)} tokens: only families with one can be distilled"
        )
    answered = answer_all(bank.model, prompts, invocation[0], codec.end, longest, lambda: bank.active(name))
    rows = [
        Row(prompt, (*invocation, *answer.tokens, codec.end))
        for prompt, answer in zip(prompts, answered, strict=True)
        if answer.ended
    ]
    say(f"the teacher answered {len(rows)} of {len(prompts)} lessons within {longest} tokens")
    return rows


def soft_loss(student: Tensor, teacher: Tensor, top: int, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of logits [N, V] over the teacher's `top` tokens and the rest as one
    event.

    0 exactly when both agree on those probabilities; in nats, mean over N.

    """
    count = min(top, teacher.shape[-1] - 1)
    p_all = (teacher.float() / temperature).log_softmax(-1)
    q_all = (student.float() / temperature).log_softmax(-1)
    p, indices = p_all.topk(count, dim=-1)
    p, q = with_rest(p), with_rest(q_all.gather(-1, indices))
    return temperature**2 * (p.exp() * (p - q)).sum(-1).mean()


def with_rest(logprobs: Tensor) -> Tensor:
    """Append the log-probability of everything else to log-probabilities [N, K] of some events."""
    total = logprobs.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-6)
    return torch.cat((logprobs, torch.log1p(-total)), -1)


def student_pass(student: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the prompt's final hidden states [B, P, D] and logits [N, V] at the learned positions."""
    positions, width = (batch.mask.cumsum(1) - 1).clamp(min=0), batch.prompt.shape[1]
    hidden = student.base_model(
        input_ids=torch.cat((batch.prompt, batch.answer), 1),
        attention_mask=batch.mask,
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state
    return hidden[:, :width], head_logits(student, hidden[:, width:][batch.loss])


def prompt_loss(student: PreTrainedModel, hidden: Tensor, batch: Batch) -> Tensor:
    """Return the student's mean next-token loss on the prompts, in nats."""
    real = batch.mask[:, : batch.prompt.shape[1] - 1].bool()
    found = F.cross_entropy(head_logits(student, hidden[:, :-1][real]).float(), batch.prompt[:, 1:][real])
    return crew().mean(found, real.sum())


class Distiller:
    """A teacher (trunk, bank, adapter name) and a student under training."""

    def __init__(self, bank: AdapterBank, name: str, student: PreTrainedModel, plan: Distilling) -> None:
        self.bank, self.name, self.student, self.plan = bank, name, student, plan
        self.optimizer = torch.optim.AdamW(
            student.parameters(), lr=plan.rate, betas=(0.9, 0.95), weight_decay=plan.weight_decay, fused=True
        )

    def loss(self, batch: Batch) -> Tensor:
        """Return the mixed loss of one batch."""
        plan, device = self.plan, batch.prompt.device.type
        with torch.autocast(device, dtype=torch.bfloat16):
            with torch.no_grad():
                wanted = answer_logits(self.bank.model, batch, self.bank, self.name)
            hidden, logits = student_pass(self.student, batch)
            own = prompt_loss(self.student, hidden, batch) if plan.prompt else torch.zeros(())
        hard = F.cross_entropy(logits.float(), targets_of(batch))
        soft = soft_loss(logits, wanted, plan.top, plan.temperature)
        answers = crew().mean(plan.soft * soft + (1 - plan.soft) * hard, batch.loss.sum())
        return answers + plan.prompt * own

    def learning(self, rows: Sequence[Row], invocation: int) -> Learning:
        """Return what the loop runs, over these rows."""
        order = Order(rows, self.plan.rows, self.plan.seed)

        def loss_of(step: int) -> tuple[Tensor, int]:
            batch = collate([rows[i] for i in order.batch(step)], invocation, self.student.device)
            return self.loss(batch), int(batch.mask.sum())

        return Learning(self.student, self.optimizer, self.plan, loss_of, "distill ")


def distill(
    bank: AdapterBank,
    name: str,
    codec: Codec,
    lessons: Sequence[Lesson],
    student: PreTrainedModel,
    plan: Distilling,
    work: Path,
    target: Path,
    say: Sink = lambda line: None,
) -> float:
    """Train `student` (in place) to answer like the bank's trunk with adapter `name`; write it to `target` in
    bf16.

    Returns the last smoothed loss. Resumes from `work`: the teacher's answers are kept there, then
    checkpoints.

    Raises:
        KeyError: the bank has no such adapter.
        ValueError: the teacher ended no answer, or `work` holds a run with other settings.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.

    """
    same_settings(work, {**asdict(plan), "lessons": len(lessons), "parameters": student.num_parameters()})
    kept = work / "answers.json"

    def answer() -> None:
        if not kept.exists():
            keep_rows(kept, teach(bank, name, codec, lessons, plan.answers, say))

    crew().once(answer)
    rows = kept_rows(kept)
    if not rows:
        raise ValueError(
            f"the teacher {name!r} ended none of its answers within {plan.answers} tokens: allow more"
        )
    with ExitStack() as stack:
        for model in (bank.model, student):
            stack.enter_context(plain_attention(model))
        student.train()
        distiller = Distiller(bank, name, student, plan)
        loss = learn(distiller.learning(rows, len(codec.invocation)), work, say)
        student.train(False)
    saved = cast(Any, copy.deepcopy(student)).to(torch.bfloat16)
    with quiet():
        saved.save_pretrained(target)
    return loss


def keep_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps([[r.prompt, r.answer] for r in rows]))
    part.replace(path)


def kept_rows(path: Path) -> list[Row] | None:
    """Read rows back, None where there are none."""
    if not path.exists():
        return None
    return [Row(tuple(p), tuple(a)) for p, a in json.loads(path.read_text())]
