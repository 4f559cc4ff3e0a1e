"""The processes that train one model together, as `accelerate launch` starts them; one alone is the plain
case.

Every process runs the same step. Each reads its share of every batch, gradients are averaged, and the main
one alone answers, judges and writes. Losses are means over tokens, and processes hold different numbers of
them: a local mean is weighed so that the average over processes is the mean over the whole batch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ...store.errors import UsageError

if TYPE_CHECKING:
    from .loop import Learning

T = TypeVar("T")
LossOf = Callable[[int], tuple[Tensor, int]]
# the others wait while the main process answers thousands of prompts
PATIENCE = timedelta(days=7)

Unheard = Sequence[tuple[str, tuple[str, ...], str]]
# what a launch may ask and no step does: variable, the values that do not ask, what it is
UNHEARD: Unheard = (
    ("ACCELERATE_DYNAMO_BACKEND", ("no",), "to compile the model"),
    ("ACCELERATE_MIXED_PRECISION", ("no",), "for mixed precision"),
)


class Crew:
    """One process that trains alone."""

    rank = 0
    size = 1
    device: torch.device | None = None  # where models go to learn; None leaves them where they are
    sharded = False  # whether each process holds but a part of what learns

    @property
    def main(self) -> bool:
        """Whether this process answers, judges and writes."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> list[T]:
        """Return this process's part of a batch; together the parts are the batch.

        Raises:
            UsageError: there are fewer rows than processes.
        """
        if len(rows) < self.size:
            raise UsageError(
                f"a batch has {len(rows)} rows for {self.size} processes: give rows = {self.size} or more, "
                "or start fewer processes"
            )
        return list(rows[self.rank :: self.size])

    def mean(self, value: Tensor, count: Tensor | int) -> Tensor:
        """Weigh a mean over ``count`` things so that its average over processes is the mean over all."""
        return value

    def average(self, value: float) -> float:
        """Return the mean over processes."""
        return value

    def once(self, make: Callable[[], T]) -> T:
        """Let the main process alone make a value that JSON can hold; every process gets it, and no one goes
        on before.
        """
        return make()

    def join(self, learning: Learning) -> LossOf:
        """Return the loss of what learns, whose backward pass averages gradients over processes."""
        return learning.loss_of

    def leave(self) -> None:
        """Undo ``join``."""


class Step(nn.Module):
    """One step's loss as a forward pass: gradients are averaged in the backward pass of what was wrapped."""

    def __init__(self, module: nn.Module, loss_of: LossOf) -> None:
        super().__init__()
        self.module, self.loss_of = module, loss_of

    def forward(self, step: int) -> tuple[Tensor, int]:
        """Return the loss, and how many tokens were read for it."""
        return self.loss_of(step)


class Launched(Crew):
    """The processes of one `accelerate launch`, through accelerate's Accelerator."""

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.rank, self.size = int(accelerator.process_index), int(accelerator.num_processes)
        self.device = accelerator.device

    def mean(self, value: Tensor, count: Tensor | int) -> Tensor:
        """Weigh a mean over ``count`` things so that its average over processes is the mean over all."""
        mine = torch.as_tensor(count, dtype=torch.float64, device=self.device)
        return value * (mine / self._mean(mine)).to(value)

    def average(self, value: float) -> float:
        """Return the mean over processes."""
        return float(self._mean(torch.tensor(value, dtype=torch.float64, device=self.device)))

    def _mean(self, value: Tensor) -> Tensor:
        found: Tensor = self.accelerator.reduce(value.clone(), reduction="mean")
        return found

    def once(self, make: Callable[[], T]) -> T:
        """Let the main process alone make a value; the others get its JSON, for nothing here unpickles."""
        made = make() if self.main else None
        text = torch.tensor(list(json.dumps(made).encode()), dtype=torch.uint8, device=self.device)
        length = self._sent(torch.tensor(len(text), device=self.device))
        text = self._sent(text if self.main else text.new_empty(int(length)))
        return made if self.main else json.loads(bytes(text.tolist()))  # type: ignore[return-value]

    def _sent(self, value: Tensor) -> Tensor:
        if self.size > 1:
            torch.distributed.broadcast(value, 0)
        return value

    def join(self, learning: Learning) -> LossOf:
        """Return the loss under accelerate's wrapper (DDP)."""
        prepared: LossOf = self.accelerator.prepare(Step(learning.module, learning.loss_of))
        return prepared

    def leave(self) -> None:
        """Let the wrapper go: its hooks stand on the parameters."""
        self.accelerator.free_memory()


def launched() -> bool:
    """Whether this process was started by `accelerate launch`, or with others by `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or "ACCELERATE_MIXED_PRECISION" in os.environ


def splits() -> bool:
    """Whether the launch asks for the model to be split among the processes (``--use_fsdp``)."""
    return launched() and os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def need_whole(what: str) -> None:
    """Refuse what cannot be done with the weights in parts.

    Raises:
        UsageError: the launch splits them; ``what`` says what is refused and why.
    """
    if splits():
        raise UsageError(
            f"accelerate is set to FSDP, which splits the model among the processes: {what}; start with DDP "
            "(--multi_gpu)"
        )


def refuse(unheard: Unheard) -> None:
    """Refuse a launch that asks for what is not done here, rather than train otherwise without a word.

    Raises:
        UsageError: it does; names the variable.
    """
    for variable, unasked, what in unheard:
        value = os.environ.get(variable, unasked[0])
        if value.lower() not in unasked:
            raise UsageError(f"{variable} = {value} asks {what}, which is not done here: leave it out")


@lru_cache(maxsize=1)
def crew() -> Crew:
    """Return this process's crew, and meet the others at the first call.

    Raises:
        UsageError: several processes were started and accelerate is not installed, or the launch asks for a
            way of training that is not supported.
    """
    if not launched():
        return Crew()
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError as error:
        size = os.environ.get("WORLD_SIZE", "1")
        raise UsageError(
            f"WORLD_SIZE says that {size} processes train together, which needs accelerate: "
            "pip install 'pilothouse[train]', or start one process"
        ) from error
    refuse(UNHEARD)
    if splits():
        from .shards import Sharded, check_launch

        check_launch()
        # else the others would hold noise until training starts, and they too read the model before that
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[patience])
    kind = str(accelerator.distributed_type.value)
    if splits() and kind != "NO":
        return Sharded(accelerator)
    if not kind.startswith(("NO", "MULTI_")):
        part()
        raise UsageError(
            f"accelerate is set to {kind}: the factory trains in one process, or in several with whole "
            "copies of the model (DDP) or parts of it (FSDP); choose that in `accelerate config`"
        )
    return Launched(accelerator)


def rank() -> int:
    """This process's number, without meeting the others: 0 is the main one, which prints."""
    return int(os.environ.get("RANK", "0"))


def part() -> None:
    """Leave the others, at the end of the program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end() -> None:
    """End a process that only followed, without Python's shutdown, where it held parts of a model.

    Once tensors lay in parts, gloo's threads outlive `destroy_process_group`, and on a busy machine the
    shutdown was seen to abort ("terminate called"), at which the launcher stops the main process too.
    """
    if splits():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@contextmanager
def placed(model: nn.Module) -> Iterator[None]:
    """Have a model where this crew trains while inside: on its accelerator, under a launch that has one.

    A model that will be split stays: its parts go there, and the whole may not have room.
    """
    here, before = None if crew().sharded else crew().device, next(model.parameters()).device
    if here is not None:
        model.to(here)
    try:
        yield
    finally:
        if here is not None:
            model.to(before)
