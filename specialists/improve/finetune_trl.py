"""Supervised fine-tuning by trl's `SFTTrainer`: the rows, order, schedule and checkpoints of `loop.learn`,
with trl's forward pass, loss and wrapper (DDP) around them.

trl's own checkpoints are pickles and are not written: the loop's are, and a resumed run is given the rows
that are left.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from ...router.denormals import as_zero
from ...store.errors import UsageError
from .crew import crew
from .finetune import Batch, Order, Row, collate
from .loop import Learning, Tick, resumed
from .pretrain import Sink, checkpoint

IGNORED = -100


def need_trl() -> None:
    """Raises UsageError where trl is not installed."""
    if find_spec("trl") is None:
        raise UsageError('trainer = "trl" needs trl: pip install \'pilothouse[train]\', or trainer = "own"')


@dataclass(eq=False)
class Watch(TrainerCallback):
    """Follows a run: progress lines, checkpoints, and a stop where the loss is not finite."""

    learning: Learning
    work: Path
    first: int
    say: Sink
    tick: Tick
    running: float = field(default=math.nan)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **rest: Any
    ) -> None:
        """Called after every step, and once more at the end, without a loss."""
        if logs is None or "loss" not in logs:
            return
        pace, step, value = self.learning.pace, self.first + state.global_step, float(logs["loss"])
        if not math.isfinite(value):
            raise FloatingPointError(
                f"loss is {value} at step {step - 1}: lower the rate, then run again to resume"
            )
        self.running = value if math.isnan(self.running) else 0.95 * self.running + 0.05 * value
        self.tick(step, pace.steps)
        if crew().main and (step % pace.every == 0 or step == pace.steps):
            module = cast(PreTrainedModel, self.learning.module)
            checkpoint(module, [self.learning.optimizer], step, self.work)
            self.say(f"{self.learning.word}step {step}/{pace.steps} loss {self.running:.4f} trl")


@as_zero()
def learn_by_trl(
    model: PreTrainedModel,
    rows: Sequence[Row],
    invocation: int,
    order: Order,
    learning: Learning,
    work: Path,
    say: Sink,
    tick: Tick,
) -> float:
    """Run `learning` (all but its ``loss_of``) to its end under trl, resuming from ``work``; return the last
    smoothed loss (nats).

    Raises:
        UsageError: trl is not installed, or the batch cannot be shared evenly by the processes.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
    """
    need_trl()
    if order.size % crew().size:
        raise UsageError(
            f"trl gives every process as many rows: a batch of {order.size} cannot be shared by "
            f"{crew().size}; give rows that {crew().size} divides"
        )
    first = resumed(learning, work, say)
    watch = Watch(learning, work, first, say, tick)
    if first < learning.pace.steps:
        numbers = [i for step in range(first, learning.pace.steps) for i in order.whole(step)]
        with restored(model):
            _trainer(model, numbers, order.size, _collator(rows, invocation), watch).train()
    return watch.running


def _collator(rows: Sequence[Row], invocation: int) -> Callable[[list[dict[str, int]]], dict[str, Tensor]]:
    cpu = torch.device("cpu")

    def collator(examples: list[dict[str, int]]) -> dict[str, Tensor]:
        return inputs_of(collate([rows[e["row"]] for e in examples], invocation, cpu))

    return collator


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """Return a batch as a causal language model takes it, [B, P + A] each: a label is its own position's
    token, or IGNORED.
    """
    labels = torch.full_like(batch.mask, IGNORED)
    answers = labels[:, batch.prompt.shape[1] :]
    answers[:, 1:][batch.loss[:, :-1]] = batch.answer[:, 1:][batch.loss[:, :-1]]
    return {
        "input_ids": torch.cat((batch.prompt, batch.answer), 1),
        "attention_mask": batch.mask,
        "position_ids": (batch.mask.cumsum(1) - 1).clamp(min=0),
        "labels": labels,
    }


def _trainer(
    model: PreTrainedModel, numbers: Sequence[int], size: int, collator: Callable[..., Any], watch: Watch
) -> Any:
    from datasets import Dataset
    from trl import SFTTrainer

    pace, optimizer = watch.learning.pace, watch.learning.optimizer
    schedule = LambdaLR(optimizer, lambda step: _share(pace, watch.first + step))
    trainer: Any = SFTTrainer(
        model=model,
        args=_config(watch, size // crew().size, model.device.type == "cpu"),
        train_dataset=Dataset.from_dict({"row": list(numbers)}),
        data_collator=collator,
        processing_class=_no_tokenizer(),
        callbacks=[watch],
        optimizers=(optimizer, schedule),
    )
    trainer.processing_class = None
    trainer.remove_callback(_printer())
    return trainer


def _config(watch: Watch, rows: int, cpu: bool) -> Any:
    from trl import SFTConfig

    pace = watch.learning.pace
    with warnings.catch_warnings():
        # trl's own default for gradient_checkpointing is on, under a name that transformers is leaving
        warnings.simplefilter("ignore", FutureWarning)
        return SFTConfig(
            output_dir=str(watch.work / "trl"),
            per_device_train_batch_size=rows,
            max_steps=pace.steps - watch.first,
            max_grad_norm=pace.clip,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            remove_unused_columns=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=cpu,
            dataloader_pin_memory=not cpu,
            ddp_find_unused_parameters=False,
            save_strategy="no",
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to=[],
            disable_tqdm=True,
            seed=int(getattr(pace, "seed", 0)),
        )


def _share(pace: Any, step: int) -> float:
    return float(pace.rate_at(min(step, pace.steps)) / pace.rate)


def _printer() -> type[TrainerCallback]:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _no_tokenizer() -> PreTrainedTokenizerFast:
    """A stand-in: rows are tokens already, and a real one would write its special tokens into the model's
    configuration.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    made: Any = PreTrainedTokenizerFast
    empty: PreTrainedTokenizerFast = made(
        tokenizer_object=Tokenizer(WordLevel({"-": 0}, unk_token="-")), pad_token="-", eos_token="-"
    )
    return empty


@contextmanager
def restored(model: PreTrainedModel) -> Iterator[None]:
    """Take back what trl puts on a model: its forward pass, and whether it keeps a cache."""
    cache = model.config.use_cache
    try:
        yield
    finally:
        model.__dict__.pop("forward", None)
        model.config.use_cache = cache
