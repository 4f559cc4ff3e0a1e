"""The one loop by which models, adapters and students learn: seeded, checkpointed, resumable at any step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...router.denormals import as_zero
from .crew import Crew, crew
from .pretrain import Sink, checkpoint, restore

Tick = Callable[[int, int], None]


class Pace(Protocol):
    """Schedule of a run: optimizer steps, largest gradient norm, steps between checkpoints, and the rate."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""

    @property
    def clip(self) -> float:
        """Largest norm of all gradients together."""

    @property
    def every(self) -> int:
        """Steps between checkpoints."""

    def rate_at(self, step: int) -> float:
        """Learning rate at a step."""


def warm_then_falling(step: int, steps: int, warmup: int) -> float:
    """Share of the peak rate at ``step``: linear warm-up, then linear fall to 0."""
    return min((step + 1) / max(1, warmup), (steps - step) / max(1, steps - warmup))


class Change(Protocol):
    """What changes gradients before, or weights after, an optimizer step (a soft mask)."""

    def before(self) -> None:
        """Called between the backward pass and the optimizer's step."""

    def after(self) -> None:
        """Called after the optimizer's step."""


@dataclass(frozen=True)
class Learning:
    """What learns and how: ``loss_of(step)`` returns the loss and the number of tokens read for it, both of
    this process's share (``crew``).

    A group's ``ratio`` in the optimizer multiplies its rate. ``word`` opens progress lines. ``model`` is what
    ``module`` is a part of, where that is more: the whole of it is split among processes that each hold a
    part.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    pace: Pace
    loss_of: Callable[[int], tuple[Tensor, int]]
    word: str = ""
    change: Change | None = None
    model: nn.Module | None = None

    def descend(self, loss: Tensor, step: int, team: Crew) -> float:
        """Take one optimizer step down ``loss`` and return its value, over all processes.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        value = team.average(loss.item())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"loss is {value} at step {step}: lower the rate, then run again to resume"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.pace.rate_at(step) * group.get("ratio", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.change is not None:
            self.change.before()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.pace.clip)
        self.optimizer.step()
        if self.change is not None:
            self.change.after()
        return value


@as_zero()
def learn(learning: Learning, work: Path, say: Sink, tick: Tick = lambda done, total: None) -> float:
    """Run to the end of the schedule, resuming from ``work``; return the last smoothed loss (nats).

    Several processes that were started together take their shares of each batch; the main one writes.

    Raises:
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
    """
    pace, first, team = learning.pace, resumed(learning, work, say), crew()
    running, tokens, started = math.nan, 0, time.monotonic()
    loss_of = team.join(learning)
    for step in range(first, pace.steps):
        loss, read = loss_of(step)
        value = learning.descend(loss, step, team)
        running = value if math.isnan(running) else 0.95 * running + 0.05 * value
        tokens += read * team.size
        tick(step + 1, pace.steps)
        if (team.main or team.sharded) and ((step + 1) % pace.every == 0 or step + 1 == pace.steps):
            keep(learning, step + 1, work)
            seconds = time.monotonic() - started
            left = (pace.steps - step - 1) * seconds / (step + 1 - first)
            rate = f"{tokens / seconds:.0f} tokens/s, {left:.0f} s left"
            say(f"{learning.word}step {step + 1}/{pace.steps} loss {running:.4f} {rate}")
    del loss_of  # the last hold on what was wrapped
    team.leave()
    return running


def keep(learning: Learning, step: int, work: Path) -> None:
    """Write a checkpoint. Where processes hold parts, all take part, and the main one writes the whole."""
    checkpoint(cast(PreTrainedModel, learning.module), [learning.optimizer], step, work, crew().main)


def resumed(learning: Learning, work: Path, say: Sink) -> int:
    """Load the checkpoint in ``work`` and return its step, 0 where there is none.

    A kill between the two files of a checkpoint leaves it torn: the run starts over, which ends in the same
    weights. The main process looks first; the others then load what it found whole.
    """
    first = crew().once(lambda: _resumed(learning, work, say))
    return first if crew().main else _restored(learning, work)


def _restored(learning: Learning, work: Path) -> int:
    return restore(cast(PreTrainedModel, learning.module), [learning.optimizer], work)


def _resumed(learning: Learning, work: Path, say: Sink) -> int:
    try:
        return _restored(learning, work)
    except ValueError as torn:
        say(f"{torn}; starting over")
        for name in ("step.json", "weights.safetensors", "optimizer.safetensors"):
            (work / name).unlink(missing_ok=True)
        return 0


def same_settings(work: Path, settings: dict[str, Any]) -> None:
    """Write the run's settings into ``work``, or compare them with those that are there.

    Raises:
        ValueError: they differ.
    """
    crew().once(lambda: _same_settings(work, settings))


def _same_settings(work: Path, settings: dict[str, Any]) -> None:
    path, text = work / "settings.json", json.dumps(settings, indent=2, sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise ValueError(
            f"{work} holds a run with other settings: delete it to start again, or restore {path}"
        )
    work.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
