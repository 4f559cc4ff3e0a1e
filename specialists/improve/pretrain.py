"""Train a small decoder from scratch on token streams: seeded, checkpointed, resumable at any step.

Matrices learn by Muon (orthogonalised momentum; Jordan et al., 2024), everything else by AdamW. The
learning rate warms
up, stays, and falls linearly to a tenth over the last part (warm-up, stable, decay), so a run can be
lengthened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ...router.denormals import as_zero

Sink = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """A part of training: how many tokens, and the share of each source (``NAME.npy`` in the stream
    folder).
    """

    name: str
    tokens: int
    mixture: Mapping[str, float]


@dataclass(frozen=True)
class Schedule:
    """Batch shape and learning rates; ``decay`` is the share of all steps over which the rate falls."""

    rows: int = 16
    length: int = 256
    rate: float = 3e-3
    warmup: int = 100
    decay: float = 0.3
    seed: int = 0
    every: int = 100
    stages: Sequence[Stage] = field(default_factory=tuple)

    @property
    def steps(self) -> int:
        """Total optimizer steps of all stages."""
        return sum(self.steps_of(stage) for stage in self.stages)

    def steps_of(self, stage: Stage) -> int:
        """Optimizer steps of one stage."""
        return stage.tokens // (self.rows * self.length)

    def stage_at(self, step: int) -> Stage:
        """Return the stage that ``step`` belongs to."""
        for stage in self.stages:
            step -= self.steps_of(stage)
            if step < 0:
                return stage
        return self.stages[-1]

    def rate_at(self, step: int) -> float:
        """Learning rate at ``step``: linear warm-up, plateau, linear fall to a tenth."""
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warmup, max(0.1, left))


class Streams:
    """Token streams on disk; a batch is a function of the seed and the step alone, so resuming needs no
    iterator state.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays: dict[str, np.ndarray] = {}

    def batch(self, schedule: Schedule, step: int) -> Tensor:
        """Draw ``[rows, length]`` token ids for ``step``.

        Raises:
            FileNotFoundError: a source of the stage's mixture has no stream file.
        """
        rng = np.random.default_rng([schedule.seed, step])
        mixture = schedule.stage_at(step).mixture
        names = list(mixture)
        weights = np.array([mixture[n] for n in names], dtype=np.float64)
        chosen = rng.choice(len(names), schedule.rows, p=weights / weights.sum())
        return torch.stack([self._window(names[i], schedule.length, rng) for i in chosen])

    def _window(self, name: str, length: int, rng: np.random.Generator) -> Tensor:
        if name not in self.arrays:
            self.arrays[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        stream = self.arrays[name]
        start = int(rng.integers(0, len(stream) - length))
        return torch.from_numpy(stream[start : start + length].astype(np.int64))


@dataclass(frozen=True)
class Turns:
    """The tokens that open a user's and an assistant's turn, and what the rest weighs beside answers.

    A prompt's numbers and words cannot be foreseen: learning to foresee them wastes a small model's steps.
    """

    user: int
    assistant: int
    others: float = 0.1

    def weights(self, tokens: Tensor) -> Tensor:
        """Loss weight of each next token of ``[rows, length]`` ids, as ``[rows, length - 1]``.

        1 in answers and in rows without turns, ``others`` in prompts and before a row's first turn.
        """
        opens = (tokens == self.assistant).int() - (tokens == self.user).int()
        places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        last = torch.where(opens != 0, places, -1).cummax(dim=1).values
        answering = (last >= 0) & (opens.gather(1, last.clamp(min=0)) > 0)
        plain = ~(opens != 0).any(dim=1, keepdim=True)
        return torch.where(answering | plain, 1.0, self.others)[:, :-1]


def optimizers(model: PreTrainedModel, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and gains."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    held = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in held]
    return [
        torch.optim.Muon(inner, lr=schedule.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=schedule.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def loss_of(model: PreTrainedModel, tokens: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean next-token cross-entropy in nats of ``[rows, length]`` ids, computed under bf16 autocast.

    ``weights``: ``[rows, length - 1]`` weights of that mean, all alike by default.
    """
    with torch.autocast("cpu" if tokens.device.type == "cpu" else "cuda", dtype=torch.bfloat16):
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    losses = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    if weights is None:
        return losses.mean()
    return (losses * weights.flatten()).sum() / weights.sum()


@as_zero()
def pretrain(
    model: PreTrainedModel,
    streams: Streams,
    schedule: Schedule,
    folder: Path,
    say: Sink,
    *,
    compiled: bool = True,
    turns: Turns | None = None,
) -> None:
    """Train ``model`` in place to the end of the schedule, resuming from ``folder`` if it holds a checkpoint.

    ``turns`` weighs the answers of chats more than their prompts.

    Raises:
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
    """
    opts = optimizers(model, schedule)
    first = restore(model, opts, folder)
    forward = torch.compile(loss_of) if compiled else loss_of
    device = next(model.parameters()).device
    started, running = time.monotonic(), 0.0
    for step in range(first, schedule.steps):
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = schedule.rate_at(step)
        tokens = streams.batch(schedule, step).to(device)
        loss = forward(model, tokens, None if turns is None else turns.weights(tokens))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"loss is {loss.item()} at step {step}: lower the rate and resume from {folder}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad(set_to_none=True)
        running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % schedule.every == 0 or step + 1 == schedule.steps:
            checkpoint(model, opts, step + 1, folder)
            say(_line(schedule, step + 1, running, (time.monotonic() - started) / (step + 1 - first)))


def _line(schedule: Schedule, done: int, loss: float, seconds: float) -> str:
    left = (schedule.steps - done) * seconds
    rate = schedule.rows * schedule.length / seconds
    name = schedule.stage_at(done - 1).name
    return (
        f"{name} step {done}/{schedule.steps} loss {loss:.3f} {rate:.0f} tokens/s, {left / 60:.0f} min left"
    )


def _state(opts: Sequence[torch.optim.Optimizer]) -> Iterator[tuple[str, Tensor]]:
    for o, opt in enumerate(opts):
        for i, values in opt.state_dict()["state"].items():
            for key, value in values.items():
                yield f"{o}.{i}.{key}", whole(torch.as_tensor(value)).clone().contiguous()


def whole(value: Tensor) -> Tensor:
    """Return a tensor that lies in parts on several processes (a ``DTensor``) as one, on the CPU; each of
    them must ask for it, and gets it. Any other tensor comes back as it is.
    """
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else cast(Tensor, gather()).cpu()


def checkpoint(
    model: PreTrainedModel,
    opts: Sequence[torch.optim.Optimizer],
    step: int,
    folder: Path,
    write: bool = True,
) -> None:
    """Write weights, optimizer state and step; each file is replaced whole, the step last.

    Without ``write`` this process only gives its parts to the one that writes, and keeps nothing.
    """
    weights = ((n, whole(p.detach()).clone().contiguous()) for n, p in model.named_parameters())
    for name, found in (("weights", weights), ("optimizer", _state(opts))):
        tensors = {n: tensor for n, tensor in found if write}
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, folder / f"{name}.part", metadata={"step": str(step)})
            (folder / f"{name}.part").replace(folder / f"{name}.safetensors")
    if write:
        (folder / "step.json").write_text(json.dumps({"step": step}))


def restore(model: PreTrainedModel, opts: Sequence[torch.optim.Optimizer], folder: Path) -> int:
    """Load the checkpoint in ``folder`` and return its step, or 0 where there is none.

    Raises:
        ValueError: a kill between two files left weights and optimizer of different steps.
    """
    if not (folder / "step.json").exists():
        return 0
    steps = set()
    for name in ("weights", "optimizer"):
        with safe_open(folder / f"{name}.safetensors", framework="pt") as handle:
            steps.add(int(handle.metadata()["step"]))
    if len(steps) > 1:
        raise ValueError(
            f"{folder} holds weights and optimizer of different steps {sorted(steps)}: delete it and restart"
        )
    model.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    loaded = load_file(folder / "optimizer.safetensors")
    for o, opt in enumerate(opts):
        packed = opt.state_dict()
        for key, value in loaded.items():
            owner, index, name = key.split(".")
            if int(owner) == o:
                packed["state"].setdefault(int(index), {})[name] = value
        opt.load_state_dict(packed)
    return steps.pop()
