"""Train an activated-LoRA adapter over a frozen trunk: only the answer is learned, only the answer is
adapted.

The adapter never acts on the prompt, so the prompt is read once without gradients and its key-value cache is
a constant; forward and backward passes then cover the answer's tokens alone. Prompts are padded on the left,
so that every row's invocation token stands in the same column, and batches hold rows of similar length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..adapters import Adapter, AdapterBank, LowRank, linear_maps, read_adapter, save_adapter, shape_of
from .crew import crew, placed
from .loop import Learning, Tick, learn, same_settings, warm_then_falling
from .pretrain import Sink

TRAINED = "trained"


class Codec(Protocol):
    """What training asks of a tokenizer (``specialists.tokenizing.ChatCodec`` has it)."""

    @property
    def invocation(self) -> tuple[int, ...]:
        """The tokens between a prompt and its answer."""

    @property
    def end(self) -> int:
        """The token that closes an answer."""

    def encode_prompt(self, prompt: str, history: Sequence[tuple[str, str]] = ()) -> tuple[int, ...]:
        """Encode the turns up to the end of ``prompt``."""

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Encode plain text, in which nothing is a special token."""


class Lesson(Protocol):
    """A prompt, the turns before it, and the answer to learn."""

    @property
    def prompt(self) -> str:
        """What is asked."""

    @property
    def answer(self) -> str:
        """What to answer."""

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """Earlier (user, assistant) turns."""


@dataclass(frozen=True)
class Tuning:
    """Shape and schedule of an adapter's training; ``rate`` warms up over ``warmup`` steps, then falls
    linearly to 0.

    ``b_ratio`` multiplies the rate of the B matrices (LoRA+, Hayou et al., 2024); 1 is plain LoRA.
    ``targets`` names the linear maps by their last part, empty means all of them. ``every`` is the distance
    between checkpoints.
    """

    rank: int = 16
    alpha: float = 32.0
    rate: float = 2e-3
    b_ratio: float = 1.0
    weight_decay: float = 0.0
    rows: int = 64
    steps: int = 1000
    warmup: int = 20
    clip: float = 1.0
    seed: int = 0
    every: int = 100
    targets: tuple[str, ...] = ()

    def rate_at(self, step: int) -> float:
        """Learning rate at ``step``."""
        return self.rate * warm_then_falling(step, self.steps, self.warmup)


@dataclass(frozen=True)
class Row:
    """One lesson in tokens: the prompt up to its end token, and invocation + answer + end."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """``prompt`` [B, P] padded left, ``answer`` [B, A] padded right, ``mask`` [B, P + A] of real tokens.

    ``loss`` [B, A] marks the positions of ``answer`` whose next token is learned.
    """

    prompt: Tensor
    answer: Tensor
    mask: Tensor
    loss: Tensor


def encode_rows(codec: Codec, lessons: Sequence[Lesson]) -> list[Row]:
    """Tokenize lessons."""
    start, end = codec.invocation, (codec.end,)
    return [
        Row(codec.encode_prompt(e.prompt, e.history), (*start, *codec.encode_text(e.answer), *end))
        for e in lessons
    ]


def collate(rows: Sequence[Row], invocation: int, device: torch.device) -> Batch:
    """Pad rows to a batch; ``invocation`` is the number of tokens that call the adapter (learned from the
    last on).
    """
    width, height = max(len(r.prompt) for r in rows), max(len(r.answer) for r in rows)
    prompt, answer = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), height), np.int64)
    mask, loss = np.zeros((len(rows), width + height), np.int64), np.zeros((len(rows), height), bool)
    for i, row in enumerate(rows):
        p, a = len(row.prompt), len(row.answer)
        prompt[i, width - p :], answer[i, :a] = row.prompt, row.answer
        mask[i, width - p : width + a], loss[i, max(0, invocation - 1) : a - 1] = 1, True
    tensors = (torch.from_numpy(x).to(device) for x in (prompt, answer, mask, loss))
    return Batch(*tensors)


class Order:
    """Which rows make batch ``step``: a function of seed and step alone, so that resuming needs no iterator
    state.

    Each epoch shuffles the rows, sorts pools of 32 batches by length and shuffles the batches.

    """

    def __init__(self, rows: Sequence[Row], size: int, seed: int) -> None:
        self.lengths = np.array([len(r.prompt) * 4096 + len(r.answer) for r in rows])
        self.size, self.seed, self.epoch = min(size, len(rows)), seed, -1
        self.per_epoch = len(rows) // self.size

    def batch(self, step: int) -> list[int]:
        """Return the row numbers of this process's share of batch ``step``: all of them where it is alone."""
        return crew().share(self.whole(step))

    def whole(self, step: int) -> list[int]:
        """Return the row numbers of batch ``step``."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            self.epoch, self.plan = epoch, self._plan(np.random.default_rng([self.seed, epoch]))
        return cast(list[int], self.plan[place].tolist())

    def _plan(self, rng: np.random.Generator) -> list[np.ndarray]:
        shuffled = rng.permutation(len(self.lengths))[: self.per_epoch * self.size]
        plan: list[np.ndarray] = []
        for start in range(0, len(shuffled), 32 * self.size):
            pool = shuffled[start : start + 32 * self.size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            plan.extend(pool[i : i + self.size] for i in range(0, len(pool), self.size))
        return [plan[i] for i in rng.permutation(len(plan))]


def answer_logits(model: PreTrainedModel, batch: Batch, bank: AdapterBank, name: str) -> Tensor:
    """Return logits [N, V] at the N learned positions of ``batch``, the adapter ``name`` acting on the
    answer.
    """
    positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
    width = batch.prompt.shape[1]
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        prompt_mask, prompt_positions = batch.mask[:, :width], positions[:, :width]
        model.base_model(
            input_ids=batch.prompt,
            attention_mask=prompt_mask,
            position_ids=prompt_positions,
            past_key_values=cache,
        )
    with bank.active(name):
        hidden = model.base_model(
            input_ids=batch.answer,
            attention_mask=batch.mask,
            position_ids=positions[:, width:],
            past_key_values=cache,
        ).last_hidden_state
    return head_logits(model, hidden[batch.loss])


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Return logits [N, V] of final hidden states [N, D] (Gemma 2 caps them)."""
    head = cast(nn.Module, model.get_output_embeddings())  # type: ignore[no-untyped-call]
    logits = head(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return cast(Tensor, logits if cap is None else torch.tanh(logits / cap) * cap)


def targets_of(batch: Batch) -> Tensor:
    """Return the next tokens [N] at the learned positions."""
    return F.pad(batch.answer[:, 1:], (0, 1))[batch.loss]


class Learner:
    """The trainable matrices of one adapter over ``model``, held in fp32."""

    def __init__(self, model: PreTrainedModel, tuning: Tuning, start: Adapter | None = None) -> None:
        self.tuning, self.names = tuning, wanted(model, tuning.targets)
        generator = torch.Generator().manual_seed(tuning.seed)
        maps = linear_maps(model)
        device = next(model.parameters()).device
        self.transposed = any(isinstance(maps[n], Conv1D) for n in self.names)
        self.a, self.b = nn.ParameterList(), nn.ParameterList()
        for name in self.names:
            outputs, inputs = shape_of(maps[name])
            a = torch.empty(tuning.rank, inputs)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
            self.a.append(nn.Parameter(a.to(device)))
            self.b.append(nn.Parameter(torch.zeros(outputs, tuning.rank, device=device)))
        if start is not None:
            self._go_on_from(start)
        self.module = nn.ModuleDict({"a": self.a, "b": self.b})

    @torch.no_grad()
    def _go_on_from(self, start: Adapter) -> None:
        """Take over an adapter's matrices; its scale is folded into its b.

        Raises:
            ValueError: it is of another rank, or adapts other maps.
        """
        if start.rank != self.tuning.rank or set(start.products) != set(self.names):
            raise ValueError(
                f"the adapter to go on from has rank {start.rank} and adapts {len(start.products)} maps, the "
                f"tuning asks for rank {self.tuning.rank} and {len(self.names)}: they must be the same"
            )
        scale = self.tuning.alpha / self.tuning.rank
        for name, a, b in zip(self.names, self.a, self.b, strict=True):
            a.copy_(start.products[name].a)
            b.copy_(start.products[name].b / scale)

    def adapter(self, name: str, invocation: tuple[int, ...]) -> Adapter:
        """Return the matrices as an adapter that trains in place."""
        scale = self.tuning.alpha / self.tuning.rank
        pairs = zip(self.names, self.a, self.b, strict=True)
        return Adapter(name, {n: LowRank(a, b, scale) for n, a, b in pairs}, self.tuning.rank, invocation)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW, with the B matrices' rate multiplied by ``b_ratio``."""
        groups = [
            {"params": list(self.a), "ratio": 1.0},
            {"params": list(self.b), "ratio": self.tuning.b_ratio},
        ]
        return torch.optim.AdamW(
            groups, lr=self.tuning.rate, weight_decay=self.tuning.weight_decay, fused=True
        )


def wanted(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """Name the linear maps to adapt.

    Raises:
        ValueError: a target names none.
    """
    names = list(linear_maps(model))
    lacking = set(targets) - {n.rsplit(".", 1)[-1] for n in names}
    if lacking:
        known = ", ".join(sorted({n.rsplit(".", 1)[-1] for n in names}))
        raise ValueError(f"no linear map is called {', '.join(sorted(lacking))}: this trunk has {known}")
    return [n for n in names if not targets or n.rsplit(".", 1)[-1] in targets]


def train_adapter(
    trunk: PreTrainedModel,
    codec: Codec,
    lessons: Sequence[Lesson],
    tuning: Tuning,
    work: Path,
    target: Path,
    say: Sink = lambda line: None,
    *,
    base: str = "trunk",
    tick: Tick = lambda done, total: None,
    start: Path | None = None,
) -> float:
    """Train an adapter on ``lessons`` and write it to ``target`` as a PEFT folder; return the last smoothed
    loss (nats). ``start`` is an adapter's folder to go on from, instead of a random one that adds nothing.

    Resumes from the checkpoint in ``work``; the same seed and data give the same adapter whether or not it
    was interrupted. The trunk is left as it was.

    Raises:
        ValueError: there are no lessons, ``work`` holds a run with other settings, or ``start`` is of another
            shape.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.

    """
    if not lessons:
        raise ValueError("no lessons: an adapter needs at least one example to learn from")
    rows = encode_rows(codec, lessons)
    begin = {} if start is None else {"start": str(start)}
    same_settings(work, {**asdict(tuning), "lessons": len(rows), **begin})
    with placed(trunk):
        loss, learner = _trained(trunk, codec, rows, tuning, work, say, tick, start)
    if crew().main:
        made = learner.adapter(TRAINED, codec.invocation)
        save_adapter(made, tuning.alpha, base, target, learner.transposed)
    return loss


def _trained(
    trunk: PreTrainedModel,
    codec: Codec,
    rows: list[Row],
    tuning: Tuning,
    work: Path,
    say: Sink,
    tick: Tick,
    start: Path | None,
) -> tuple[float, Learner]:
    begin = None if start is None else read_adapter(TRAINED, start, torch.float32, trunk.device)
    learner, was_training = Learner(trunk, tuning, begin), trunk.training
    frozen = {n: p.requires_grad for n, p in trunk.named_parameters()}
    trunk.requires_grad_(False)
    trunk.train(False)
    bank = AdapterBank(trunk, low=torch.bfloat16)
    try:
        bank.add(learner.adapter(TRAINED, codec.invocation))
        with plain_attention(trunk):
            loss = learn(_learning(trunk, bank, learner, rows, len(codec.invocation)), work, say, tick)
    finally:
        bank.close()
        trunk.train(was_training)
        for name, parameter in trunk.named_parameters():
            parameter.requires_grad_(frozen[name])
    return loss, learner


@contextmanager
def plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Use unfused attention inside on a CPU: the fused one's slow backward pass made a step 1.5 times as
    long.
    """
    before = str(model.config._attn_implementation)
    model.set_attn_implementation("eager" if (crew().device or model.device).type == "cpu" else before)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _learning(
    trunk: PreTrainedModel, bank: AdapterBank, learner: Learner, rows: list[Row], invocation: int
) -> Learning:
    tuning = learner.tuning
    order, device = Order(rows, tuning.rows, tuning.seed), next(trunk.parameters()).device

    def loss_of(step: int) -> tuple[Tensor, int]:
        batch = collate([rows[i] for i in order.batch(step)], invocation, device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = answer_logits(trunk, batch, bank, TRAINED)
        value = crew().mean(F.cross_entropy(logits.float(), targets_of(batch)), batch.loss.sum())
        return value, int(batch.mask.sum())

    return Learning(learner.module, learner.optimizer(), tuning, loss_of)
