"""Learning with the model in parts: each process of one launch holds its part of every weight, gradient and
optimizer state (FSDP2, torch's ``fully_shard``; Zhao et al., 'PyTorch FSDP', 2023).

A decoder layer is whole on a process only while it is read; embeddings, last norm and head, from the forward
pass to the end of the backward pass. torch is called directly: accelerate turns FSDP on for accelerators
alone, and on a CPU would train whole copies without a word. What torch puts on a module stays there, so
copies of the model's modules are split while its own are set aside; these get the learned weights in the end.
"""

from __future__ import annotations

import copy
import gc
import os
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from ...router.taps import decoder_layers
from ...store.errors import UsageError
from .crew import Launched, LossOf, Step, Unheard, refuse
from .pretrain import whole

if TYPE_CHECKING:
    from .loop import Learning

# what a launch may ask of FSDP and does not get here
REFUSED: Unheard = (
    ("FSDP_OFFLOAD_PARAMS", ("false",), "to offload weights"),
    ("FSDP_ACTIVATION_CHECKPOINTING", ("false",), "to compute activations twice"),
    ("FSDP_IGNORED_MODULES", ("", "none"), "to leave modules whole"),
)


def check_launch() -> None:
    """Refuse what the launch asks of FSDP and does not get here.

    Raises:
        UsageError: it asks for FSDP's first version, or for an option that is not supported.
    """
    version = os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        raise UsageError(
            f"the launch asks for FSDP version {version}: give --fsdp_version 2, for the first flattens a "
            "layer's weights into one"
        )
    refuse(REFUSED)


class Sharded(Launched):
    """The processes of a launch with ``--use_fsdp``: each holds a part of the model that learns."""

    sharded = True
    split: Split | None = None

    def join(self, learning: Learning) -> LossOf:
        """Split what learns, and its optimizer; return a loss whose backward pass averages gradients and
        leaves each process its part of them.

        Raises:
            UsageError: what learns is not part of a decoder whose layers are known.
        """
        assert self.device is not None
        self.split = Split(learning, init_device_mesh(self.device.type, (self.size,)))
        return self.split.wrapped(learning.loss_of)

    def leave(self) -> None:
        """Make the model whole again, on every process."""
        if self.split is not None:
            self.split.undo()
            self.split = None
            # torch's states and modules hold each other, the parts and the way to the other processes
            gc.collect()


class Split:
    """A model in parts, and what it takes to make it whole.

    The caller's parameters are emptied meanwhile, so that what else holds them keeps no whole weights; they
    are filled again in the end, where they lay before.
    """

    def __init__(self, learning: Learning, mesh: DeviceMesh) -> None:
        self.model = learning.module if learning.model is None else learning.model
        self.module, self.optimizer, self.mesh = learning.module, learning.optimizer, mesh
        _layers(self.model)  # raises for unknown models, before anything moves
        self.own, self.held = vars(self.model), dict(self.model.named_parameters())
        self.home = {name: p.device for name, p in self.held.items()}

    def wrapped(self, loss_of: LossOf) -> LossOf:
        """Split model and optimizer; return the loss as the forward pass of what was split."""
        _put(self.model, vars(_twin(self.model, self.held)))
        options: dict[str, Any] = {"mesh": self.mesh, "reshard_after_forward": _reshards()}
        for layer in _layers(self.model):
            fully_shard(layer, **options)
        step: Any = fully_shard(Step(self.model, loss_of), mesh=self.mesh)
        self._switch(self._parts())
        return cast(LossOf, step)

    def _parts(self) -> dict[nn.Parameter, nn.Parameter]:
        """The caller's parameters, each with its part on this process."""
        parts = dict(self.model.named_parameters())
        return {own: parts[name] for name, own in self.held.items()}

    def _switch(self, to: dict[nn.Parameter, nn.Parameter]) -> None:
        """Have the optimizer and what is checkpointed hold other parameters."""
        for group in self.optimizer.param_groups:
            group["params"] = [to[p] for p in group["params"]]
        states: dict[Any, Any] = dict(self.optimizer.state)
        self.optimizer.state.clear()
        for own, state in states.items():
            self.optimizer.state[to[own]] = {k: _part(v, to[own]) for k, v in state.items()}
        if self.module is not self.model:
            for name, own in self.module.named_parameters():
                self.module.register_parameter(name, to[own])

    @torch.no_grad()
    def undo(self) -> None:
        """Fill the caller's parameters with the learned weights and put the model's own modules back."""
        parts = self._parts()
        self.optimizer.state.clear()
        self._switch({part: own for own, part in parts.items()})
        for name, own in self.held.items():
            own.data = whole(parts[own]).detach().to(self.home[name])
        _put(self.model, self.own)


def _part(value: Tensor, like: nn.Parameter) -> Tensor:
    """This process's part of an optimizer's state for one parameter, which every process has whole."""
    assert isinstance(like, DTensor)
    value = value.to(like.device)
    if value.shape != like.shape:
        return value
    # cloned, for a part that is a view would keep the whole alive
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None).clone()


def _layers(model: nn.Module) -> list[nn.Module]:
    inner = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
    if inner is None:
        raise UsageError(
            "accelerate is set to FSDP, which splits a model among the processes, and what learns here lies "
            "outside of one: start with DDP (--multi_gpu)"
        )
    return list(decoder_layers(inner))


def _reshards() -> bool:
    return os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() == "true"


def _twin(model: nn.Module, held: dict[str, nn.Parameter]) -> nn.Module:
    """A copy of a model's modules, hooks included, that takes its weights over: ``held`` is empty then."""
    taken: dict[int, Any] = {}
    for own in held.values():
        taken[id(own)] = nn.Parameter(own.data, requires_grad=own.requires_grad)
        own.data, own.grad = own.data.new_empty(0), None
    return copy.deepcopy(model, taken)


def _put(model: nn.Module, attributes: dict[str, Any]) -> None:
    """Let a module be what ``attributes`` say: whoever holds it holds it still."""
    object.__setattr__(model, "__dict__", attributes)
