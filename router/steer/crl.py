"""Control reinforcement learning: a policy picks one SAE feature a token, and learns from the verdicts.

Cho, Wu, Koshiyama, 'Control Reinforcement Learning' (arXiv 2602.10437), reconstructed: state x_t is the
stream at the last token of one layer, the action one feature a, the push x_t + c_a W_dec[a], the reward the
verdict on the whole answer, the learner PPO (`ppo`). The paper does not give its masking rule; three are
offered (`Masking`): no mask; only features that were active in the context so far; and these weighted by how
active they were. Feature strengths c [S] are the caller's: a constant, or CorrSteer's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...store.errors import UsageError
from ..features.sae import SAE
from ..taps import decoder_layers, layer_at, stream
from .ppo import ActorCritic, Batch, Recipe, Step, learner, update
from .runtime import Phase
from .task import Answer, Task, play, right

Masking = Literal["none", "active", "weighted"]
Heard = Literal["generation", "all"]
NOBODY = -1


class Move(NamedTuple):
    """One token's step of a batch of B answers: states [B,D], actions [B], log-probabilities [B], values [B],
    logit biases [B,A] or None.
    """

    states: Tensor
    actions: Tensor
    acted: Tensor
    values: Tensor
    bias: Tensor | None


@dataclass(eq=False)
class Control:
    """Context manager: while it is open, the policy picks a feature wherever a token is drawn, and pushes.

    `strength` [S] multiplies decoder rows; only features with a strength other than 0 can be picked. With a
    `generator` features are drawn, else the likeliest is taken. `forced` {token: features [N]} overrules it
    for the task's rows where it is not -1; `heard` says whose activations a mask goes by. `moves` keeps each
    batch's steps: [(rows, [Move, ...])].
    """

    model: nn.Module
    net: ActorCritic
    sae: SAE
    strength: Tensor
    masking: Masking = "none"
    heard: Heard = "generation"
    generator: torch.Generator | None = None
    forced: Mapping[int, Tensor] = field(default_factory=dict)
    phase: Phase = "prompt"
    moves: list[tuple[list[int], list[Move]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.strength.shape != (self.sae.d_sae,) or not bool(self.strength.any()):
            raise UsageError(
                f"strengths have shape {list(self.strength.shape)} and {int((self.strength != 0).sum())} are "
                f"not 0; give one for each of the {self.sae.d_sae} features, some of them not 0"
            )
        self._shut = torch.where(self.strength != 0, 0.0, float("-inf"))
        self._total = self._count = torch.zeros(0)
        self._handle: Any = None

    def begin(self, rows: Sequence[int]) -> None:
        """A new batch of answers begins."""
        self.moves.append((list(rows), []))
        self._total, self._count = torch.zeros(len(rows), self.sae.d_sae), torch.zeros(())

    def __enter__(self) -> Control:
        layer = layer_at(decoder_layers(self.model), self.sae.layer)
        self._handle = layer.register_forward_hook(self._act)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.remove()

    # -- inside the forward pass ---------------------------------------------------------------------------

    def _act(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        x = stream(output)
        if self.phase == "prompt":
            if self.masking != "none" and self.heard == "all":
                self._hear(x)
            return None
        state = x[:, -1].detach().float().cpu()
        if self.masking != "none":
            self._hear(x if self.heard == "all" else x[:, -1:])
        move = self._choose(state)
        self.moves[-1][1].append(move)
        push = self.strength[move.actions, None] * self.sae.W_dec[move.actions]
        steered = x.clone()
        steered[:, -1] += push.to(x.device, x.dtype)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    def _hear(self, x: Tensor) -> None:
        """Add these tokens [B,T,D] to the running mean of the activations."""
        acts = self.sae.encode(x.detach().float().cpu().flatten(0, 1))
        self._total += acts.reshape(x.shape[0], x.shape[1], -1).sum(1)
        self._count = self._count + x.shape[1]

    def _bias(self, rows: int) -> Tensor | None:
        """What is added to the logits, [B,A]; None for nothing. A row where no feature that may be picked was
        active yet is left unmasked.
        """
        shut = self._shut if bool(self._shut.any()) else None
        if self.masking == "none":
            return None if shut is None else shut.expand(rows, -1)
        mean = self._total / self._count.clamp_min(1)
        allowed = (mean > 0) & (self._shut == 0)
        open_ = mean.log() if self.masking == "weighted" else torch.zeros_like(mean)
        masked = torch.where(allowed, open_, torch.full_like(mean, float("-inf")))
        return torch.where(allowed.any(1, keepdim=True), masked, self._shut)

    def _choose(self, state: Tensor) -> Move:
        bias = self._bias(len(state))
        with torch.no_grad():
            log_probabilities = self.net.log_probabilities(state, bias)
            values = self.net.values(state)
        if self.generator is not None:
            actions = torch.multinomial(log_probabilities.exp(), 1, generator=self.generator)[:, 0]
        else:
            actions = log_probabilities.argmax(1)
        wanted = self.forced.get(len(self.moves[-1][1]))
        if wanted is not None:
            asked = wanted[self.moves[-1][0]]
            actions = torch.where(asked != NOBODY, asked, actions)
        return Move(state, actions, log_probabilities.gather(1, actions[:, None])[:, 0], values, bias)

    # -- afterwards ----------------------------------------------------------------------------------------

    def batch(self, answers: Sequence[Answer], rewards: Sequence[float]) -> Batch:
        """The steps that were really drawn from, each with its answer's reward; forget them here."""
        parts: list[Batch] = []
        for rows, moves in self.moves:
            draws = torch.tensor([answers[row].draws for row in rows])
            reward = torch.tensor([float(rewards[row]) for row in rows])
            for t, move in enumerate(moves):
                kept = draws > t
                bias = None if move.bias is None else move.bias[kept]
                parts.append(
                    Batch(move.states[kept], move.actions[kept], move.acted[kept], reward[kept], bias)
                )
        self.moves = []
        states, actions, acted, returns = (torch.cat([part[i] for part in parts]) for i in range(4))  # type: ignore[misc]
        biases = [part.bias for part in parts if part.bias is not None]
        return Batch(states, actions, acted, returns, torch.cat(biases) if biases else None)

    def chosen(self, count: int) -> Tensor:
        """Which feature was picked for each answer at each token, [count, T]; -1 where there was no token."""
        longest = max((len(moves) for _, moves in self.moves), default=0)
        found = torch.full((count, longest), NOBODY)
        for rows, moves in self.moves:
            for t, move in enumerate(moves):
                found[rows, t] = move.actions
        return found


class Told(NamedTuple):
    """Progress of training: the update, the share of right answers in its batch, and what PPO saw."""

    update: int
    reward: float
    step: Step


def states_of(model: nn.Module, task: Task, layer: int) -> Tensor:
    """The states [N,D] that answers to a task are drawn from at a layer, unsteered."""
    found: list[Tensor] = []
    play(
        model,
        task,
        taps=[layer],
        watch=lambda rows, states, alive: found.append(states[layer][alive].clone()),
    )
    return torch.cat(found)


def train(
    model: nn.Module,
    task: Task,
    sae: SAE,
    strength: Tensor,
    recipe: Recipe,
    seed: int,
    masking: Masking = "none",
    report: Callable[[Told], None] | None = None,
    *,
    shuffle: bool = False,
) -> ActorCritic:
    """Train the policy on a task; the model stays frozen. `shuffle` is a control: it hands each batch's
    rewards to other answers. Raises UsageError when the SAE does not fit.
    """
    generator = torch.Generator().manual_seed(seed)
    net = ActorCritic(states_of(model, task, sae.layer), sae.d_sae, recipe.hidden, seed)
    optimizer = learner(net, recipe)
    for index in range(recipe.updates):
        rows = torch.randint(len(task), (recipe.rows,), generator=generator).tolist()
        control = Control(model, net, sae, strength, masking, generator=generator)
        answers = play(model, task.part(rows), hand=control)
        order = torch.randperm(len(rows), generator=generator).tolist() if shuffle else range(len(rows))
        batch = control.batch(answers, [float(answers[i].right) for i in order])
        step = update(net, optimizer, batch, recipe, recipe.entropy * (1 - index / recipe.updates))
        if report is not None:
            report(Told(index, right(answers), step))
    return net.requires_grad_(False)
