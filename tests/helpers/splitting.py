"""A model that learns in parts, inside one of several processes: what each holds, and what it learned."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from pilothouse.specialists.improve.loop import Learning

# clip, rate, and what is done wrong on purpose
RUNS = {
    "clipped": (0.05, 1.0, None),
    "free": (1e9, 0.05, None),
    "clipped alone": (0.05, 1.0, "clip"),
    "summed": (1e9, 0.05, "sum"),
}
STEPS, ROWS, LENGTH = 3, 6, 9


def taught(trunk: Path, work: Path, run: str, held: dict[str, Any] | None = None) -> dict[str, Tensor]:
    """Teach the model in ``trunk`` to continue random tokens, by plain descent with momentum; return its
    weights, and into ``held`` what this process held of them meanwhile.
    """
    from pilothouse.specialists.improve import loop
    from pilothouse.specialists.improve.finetune_full import Sft, _Trained
    from pilothouse.specialists.models import load_model_folder

    clip, rate, _ = RUNS[run]
    model: Any = load_model_folder(trunk, torch.float32)
    own = dict(model.named_parameters())
    optimizer = torch.optim.SGD(own.values(), lr=rate, momentum=0.9)
    pace = Sft(steps=STEPS, rate=rate, warmup=0, clip=clip, every=2)
    module: Any = _Trained(own)
    learning = loop.Learning(module, optimizer, pace, _loss_of(model), model=model)

    def tick(done: int, total: int) -> None:
        if held is not None and done == total:
            held.update(_held(learning, list(own.values())))

    loop.learn(learning, work, lambda line: None, tick)
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in own.items()), "the model's own came back"
    assert not any(hasattr(m, "_is_fsdp_managed_module") for m in model.modules())
    return {name: p.detach().clone() for name, p in own.items()}


def _loss_of(model: Any) -> Any:
    from pilothouse.specialists.improve.crew import crew

    def loss_of(step: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(5, 200, (ROWS, LENGTH), generator=generator)[crew().rank :: crew().size]
        return model(input_ids=ids, labels=ids).loss, ids.numel()

    return loss_of


def _held(learning: Learning, own: list[nn.Parameter]) -> dict[str, int]:
    """Bytes on this process: weights, gradients and state that learn, and what the caller holds."""
    learned = [p for group in learning.optimizer.param_groups for p in group["params"]]
    states = [v for state in learning.optimizer.state.values() for v in state.values()]
    parts = {"weights": learned, "gradients": [p.grad for p in learned], "state": states, "own": own}
    return {name: sum(_local(t).nbytes for t in tensors) for name, tensors in parts.items()}


def _local(tensor: Any) -> Tensor:
    found: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found


def split(env: Mapping[str, str], trunk: Path, folder: Path) -> None:
    """Learn by each run of RUNS as one of several processes, and write what came of it."""
    os.environ.update(env)
    from pilothouse.specialists.improve.crew import crew, part

    facts: dict[str, Any] = {"crew": type(crew()).__name__}
    for run, (_, _, wrong) in RUNS.items():
        with _wrong(wrong):
            weights = taught(trunk, folder / run, run, facts)
        save_file(weights, folder / f"{run}-{crew().rank}.safetensors")
    (folder / f"{crew().rank}.json").write_text(json.dumps(facts))
    part()


@contextmanager
def _wrong(what: str | None) -> Iterator[None]:
    """Clip each process's part by its own norm, or sum gradients instead of averaging them."""
    from pilothouse.specialists.improve import shards

    clip, cut = torch.nn.utils.clip_grad_norm_, shards.fully_shard

    def clipped(parameters: Any, most: float) -> Tensor:
        return clip([_as_leaf(p.grad.to_local()) for p in parameters if p.grad is not None], most)

    def summed(module: nn.Module, **options: Any) -> nn.Module:
        made: Any = cut(module, **options)
        made.set_force_sum_reduction_for_comms(True)  # gloo scales no sums
        made.set_gradient_divide_factor(1.0)
        return module

    wrongs = {"clip": (torch.nn.utils, "clip_grad_norm_", clipped), "sum": (shards, "fully_shard", summed)}
    if what is None:
        yield
    else:
        with mock.patch.object(*wrongs[what]):
            yield


def _as_leaf(gradient: Tensor) -> Tensor:
    """Something whose gradient this is."""
    leaf = torch.zeros_like(gradient)
    leaf.grad = gradient
    return leaf
