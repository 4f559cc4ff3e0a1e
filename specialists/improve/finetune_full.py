"""Fine-tune a model's own weights, all of them or a chosen part; what is not chosen stays bit-identical."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...router.taps import decoder_layers
from ...store.errors import UsageError
from ..adapters import linear_maps
from .crew import crew, need_whole, placed
from .distill import prompt_loss, student_pass
from .finetune import Batch, Order, Row, collate, plain_attention, targets_of
from .loop import Change, Learning, Tick, learn, same_settings, warm_then_falling
from .pretrain import Sink

Trainer = Literal["own", "trl"]
Module = Literal["mha", "ffn", "up", "down", "qkv", "all"]
# last parts of the names of linear maps, by kind of trunk; gates, norms, embeddings and head stay frozen
ATTENTION = ("self_attn", "attn", "attention")
QKV = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")
UP = ("up_proj", "gate_up_proj", "c_fc", "fc1", "dense_h_to_4h")
DOWN = ("down_proj", "c_proj", "fc2", "dense_4h_to_h")


@dataclass(frozen=True)
class Sft:
    """Schedule of supervised fine-tuning. ``anchor`` pulls weights back to where they started (L2-SP, Li et
    al., 2018: ``anchor / 2`` times the squared distance); ``prompt`` weighs the loss on the prompts' tokens.
    ``trainer`` runs the loop: ``own``, or trl's ``SFTTrainer``, which knows the loss on answers alone.
    """

    rows: int = 32
    steps: int = 300
    rate: float = 1e-3
    warmup: int = 20
    weight_decay: float = 0.0
    clip: float = 1.0
    seed: int = 0
    every: int = 100
    anchor: float = 0.0
    prompt: float = 0.0
    bf16: bool = False
    trainer: Trainer = "own"

    def rate_at(self, step: int) -> float:
        """Learning rate at ``step``."""
        return self.rate * warm_then_falling(step, self.steps, self.warmup)


Loss = Callable[[Batch, int], Tensor]


def region(model: PreTrainedModel, layers: Sequence[int], module: Module) -> list[str]:
    """Name the weights of one kind of linear map in decoder layers [first, last).

    Raises:
        UsageError: the range is empty or leaves the model, or its layers have no such map.
    """
    blocks = decoder_layers(model)
    first, last = layers
    if not 0 <= first < last <= len(blocks):
        raise UsageError(f"layers {first} to {last}: the model has 0 to {len(blocks)}, give first < last")
    inside = {id(m) for block in blocks[first:last] for m in block.modules()}
    names = [n for n, m in linear_maps(model).items() if id(m) in inside and _is(n, module)]
    if not names:
        raise UsageError(
            f"layers {first} to {last} have no linear map of kind {module!r}: choose another one"
        )
    return [f"{n}.weight" for n in names]


def _is(name: str, module: Module) -> bool:
    last = name.rsplit(".", 1)[-1]
    attends = any(part in ATTENTION for part in name.split("."))
    kinds = {
        "all": True,
        "mha": attends,
        "qkv": attends and last in QKV,
        "up": not attends and last in UP,
        "down": not attends and last in DOWN,
        "ffn": not attends and last in (*UP, *DOWN),
    }
    return kinds[module]


def tune(
    model: PreTrainedModel,
    rows: Sequence[Row],
    invocation: int,
    sft: Sft,
    work: Path,
    chosen: Sequence[str] | None = None,
    say: Sink = lambda line: None,
    tick: Tick = lambda done, total: None,
    change: Change | None = None,
    loss: Loss | None = None,
    word: str = "",
) -> float:
    """Train the chosen weights (None: all) of ``model`` in place; return the last smoothed loss (nats).

    Resumes from ``work``; the same seed and rows give the same weights whether or not it was interrupted.
    ``loss(batch, step)`` replaces the cross-entropy on answers.

    Raises:
        ValueError: there are no rows, or ``work`` holds a run with other settings.
        UsageError: trl is to train what it cannot.
        FloatingPointError: the loss is not finite.
    """
    if sft.trainer == "trl" and (loss is not None or change is not None or sft.anchor or sft.prompt):
        raise UsageError(
            'trainer = "trl" learns answers and nothing else: no other loss, mask, anchor or prompt'
        )
    if sft.trainer == "trl" or change is not None or sft.anchor:
        need_whole("trl, masks and anchors act on whole weights")
    if not rows:
        raise ValueError("no rows: fine-tuning needs at least one example to learn from")
    names = [n for n, _ in model.named_parameters()] if chosen is None else list(chosen)
    same_settings(work, {**asdict(sft), "rows_of_data": len(rows), "chosen": names})
    with placed(model):
        return _tune(model, rows, invocation, sft, work, names, say, tick, change, loss, word)


def _tune(
    model: PreTrainedModel,
    rows: Sequence[Row],
    invocation: int,
    sft: Sft,
    work: Path,
    names: Sequence[str],
    say: Sink,
    tick: Tick,
    change: Change | None,
    loss: Loss | None,
    word: str,
) -> float:
    trained = _only(model, names)
    optimizer = torch.optim.AdamW(
        list(trained.values()), lr=sft.rate, betas=(0.9, 0.95), weight_decay=sft.weight_decay, fused=True
    )
    order = Order(rows, sft.rows, sft.seed)
    start = {n: p.detach().clone() for n, p in trained.items()} if sft.anchor else {}

    def loss_of(step: int) -> tuple[Tensor, int]:
        batch = collate([rows[i] for i in order.batch(step)], invocation, model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=sft.bf16):
            value = answer_loss(model, batch, sft.prompt) if loss is None else loss(batch, step)
        for name, was in start.items():
            value = value + sft.anchor / 2 * (trained[name] - was).square().sum()
        return value, int(batch.mask.sum())

    holder = cast(nn.Module, _Trained(trained))
    with plain_attention(model):
        model.train()
        learning = Learning(holder, optimizer, sft, loss_of, word, change, model)
        if sft.trainer == "trl":
            from .finetune_trl import learn_by_trl

            found = learn_by_trl(model, rows, invocation, order, learning, work, say, tick)
        else:
            found = learn(learning, work, say, tick)
        model.train(False)
    model.requires_grad_(True)
    return found


class _Trained(nn.Module):
    """The weights that learn, under flat names: checkpoints hold these and no frozen ones."""

    def __init__(self, trained: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in trained.items():
            self.register_parameter(name.replace(".", "/"), parameter)


def _only(model: PreTrainedModel, names: Sequence[str]) -> dict[str, nn.Parameter]:
    held = dict(model.named_parameters())
    model.requires_grad_(False)
    for name in names:
        held[name].requires_grad_(True)
    return {name: held[name] for name in names}


def answer_loss(model: PreTrainedModel, batch: Batch, prompt: float = 0.0) -> Tensor:
    """Return the mean loss on the answers, plus ``prompt`` times that on the prompts, in nats."""
    hidden, logits = student_pass(model, batch)
    found = crew().mean(F.cross_entropy(logits.float(), targets_of(batch)), batch.loss.sum())
    return found + prompt * prompt_loss(model, hidden, batch) if prompt else found


@torch.no_grad()
def interpolate(model: PreTrainedModel, start: Mapping[str, Tensor], share: float) -> None:
    """Set the weights named in ``start`` to (1 - share) start + share tuned, in place (WiSE-FT, Wortsman et
    al., 2022).
    """
    for name, parameter in model.named_parameters():
        if name in start:
            parameter.copy_(torch.lerp(start[name], parameter, share))
