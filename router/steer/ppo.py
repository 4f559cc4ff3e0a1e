"""Proximal policy optimisation over a discrete set of actions: the learner of `crl`.

Schulman et al., 'Proximal Policy Optimization Algorithms' (2017), eq. 7, with Monte Carlo returns and the
advantage R - V(s). Acting and learning read one distribution, `ActorCritic.log_probabilities`: on the first
pass over a batch the ratio is exactly 1, and `update` refuses a batch that something else has acted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..checks import finite

AGREES = 1e-4  # how far the log-probability at acting may lie from the learner's, for rounding


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters; the paper of `crl` gives none. `updates` batches of `rows` answers, `epochs` passes
    over each. `entropy` falls to 0 over the run.
    """

    updates: int = 200
    rows: int = 128
    epochs: int = 4
    rate: float = 3e-3
    clip: float = 0.2
    entropy: float = 0.02
    value: float = 0.5
    hidden: int = 64

    def __post_init__(self) -> None:
        if min(self.updates, self.rows, self.epochs, self.hidden) < 1 or not 0 < self.clip < 1:
            raise UsageError(f"{self}: counts must be at least 1, and clip between 0 and 1")


class ActorCritic(nn.Module):
    """Two small perceptrons over a state [B,D]: logits [B,A] over actions, and a value [B].

    States are brought to zero mean and unit variance by `centre` [D] and `spread` [D], fixed at the start.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, states: Tensor, actions: int, hidden: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("centre", states.float().mean(0))
        self.register_buffer("spread", states.float().std(0).clamp_min(1e-3))
        self.actor, self.critic = (
            nn.Sequential(nn.Linear(states.shape[1], hidden), nn.Tanh(), nn.Linear(hidden, outputs))
            for outputs in (actions, 1)
        )
        with torch.no_grad():
            for name, weight in self.named_parameters():
                weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
                if name.endswith("bias"):
                    weight.zero_()
            last = self.actor[2]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.01)  # begins almost uniform

    def _seen(self, states: Tensor) -> Tensor:
        return (states.float() - self.centre) / self.spread

    def log_probabilities(self, states: Tensor, bias: Tensor | None = None) -> Tensor:
        """Log-probabilities [B,A]. `bias` [B,A] is added to the logits; -inf forbids an action."""
        logits = self.actor(self._seen(states))
        return torch.as_tensor(logits if bias is None else logits + bias).log_softmax(-1)

    def values(self, states: Tensor) -> Tensor:
        """What return the critic expects from each state, [B]."""
        return torch.as_tensor(self.critic(self._seen(states)))[:, 0]


class Batch(NamedTuple):
    """N steps that were acted out: states [N,D], actions [N], their log-probabilities then [N], returns [N],
    and the biases [N,A] of masked logits (None: nothing was masked).
    """

    states: Tensor
    actions: Tensor
    acted: Tensor
    returns: Tensor
    bias: Tensor | None = None


class Step(NamedTuple):
    """What an update saw: the largest |ratio - 1| on the first pass (0 always), losses, entropy in nats."""

    first_ratio: float
    policy_loss: float
    value_loss: float
    entropy: float


def _taken(log_probabilities: Tensor, actions: Tensor) -> Tensor:
    return log_probabilities.gather(1, actions[:, None])[:, 0]


def update(
    net: ActorCritic, optimizer: torch.optim.Optimizer, batch: Batch, recipe: Recipe, entropy: float
) -> Step:
    """Take `epochs` clipped steps on a batch.

    Raises UsageError when returns are not finite, or when the actions were not drawn from the distribution
    that learns (a released proof of concept drew from a softmax and learned a normal: its ratio meant
    nothing).
    """
    finite("returns", batch.returns)
    with torch.no_grad():
        old = _taken(net.log_probabilities(batch.states, batch.bias), batch.actions)
        advantage = batch.returns - net.values(batch.states)
        advantage = (advantage - advantage.mean()) / advantage.std(correction=0).clamp_min(1e-6)
    off = float((old - batch.acted).abs().max())
    if not off <= AGREES:
        raise UsageError(
            f"the log-probabilities at acting differ from the policy's by up to {off:g} (at most {AGREES:g}):"
            " draw actions from ActorCritic.log_probabilities, with the same weights and masks"
        )
    first, seen = 0.0, Step(0.0, 0.0, 0.0, 0.0)
    for epoch in range(recipe.epochs):
        log_probabilities = net.log_probabilities(batch.states, batch.bias)
        ratio = (_taken(log_probabilities, batch.actions) - old).exp()
        if epoch == 0:
            first = float((ratio - 1).abs().max().detach())
        policy = clipped(ratio, advantage, recipe.clip)
        value = (net.values(batch.states) - batch.returns).square().mean()
        # 0 log 0 = 0 for masked actions
        spread = -(log_probabilities.exp() * log_probabilities.clamp_min(-50)).sum(1).mean()
        optimizer.zero_grad()
        loss = policy + recipe.value * value - entropy * spread
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        seen = Step(first, float(policy.detach()), float(value.detach()), float(spread.detach()))
    return seen


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """The clipped surrogate as a loss: -mean min(r A, clip(r, 1 - e, 1 + e) A) (eq. 7)."""
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def learner(net: ActorCritic, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam over all weights."""
    return torch.optim.Adam(net.parameters(), lr=recipe.rate)
