"""PerSyn: a router that sends each prompt to the teacher whose answer this student would learn most from.

Zhang et al., 'Find Your Optimal Teacher' (2025). A reward joins an answer's quality and how likely the
student finds it (Eqs. 1 and 2); a router learns from the prompt alone which teacher wins (Bradley-Terry,
Eq. 3) on a labelled subset that every teacher answers; then each prompt is answered once, by its routed
teacher. How rewards are normalised within a prompt, and the router's own schedule, are reconstructions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from .answering import batches
from .distill import student_pass
from .finetune import Row, collate, targets_of
from .loop import Learning, Tick, learn, warm_then_falling
from .pretrain import Sink

Normaliser = Literal["minmax", "zscore"]
Route = Literal["persyn", "oracle", "car", "strong", "mix", "shuffled", "quality", "learnability"]
ROUTES: tuple[Route, ...] = (
    "persyn", "oracle", "car", "strong", "mix", "shuffled", "quality", "learnability"
)  # fmt: skip


@torch.no_grad()
def learnability(student: PreTrainedModel, rows: Sequence[Row], invocation: int, size: int = 64) -> Tensor:
    """Return the student's mean log-likelihood of each row's answer, end token included, [N] in nats (Eq. 1).

    It is minus the loss that fine-tuning on that row alone would start from.
    """
    out = torch.empty(len(rows))
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt), len(rows[i].answer)))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = collate([rows[i] for i in chosen], invocation, student.device)
        _, logits = student_pass(student, batch)
        losses = F.cross_entropy(logits.float(), targets_of(batch), reduction="none")
        owner = torch.arange(len(chosen))[:, None].expand_as(batch.loss)[batch.loss.cpu()]
        sums = torch.zeros(len(chosen)).index_add_(0, owner, -losses.cpu())
        out[chosen] = sums / torch.bincount(owner, minlength=len(chosen))
    return out


def normalised(x: Tensor, how: Normaliser = "minmax") -> Tensor:
    """Return scores [N, K] on one scale within each prompt; a prompt whose teachers are all alike gets 0.5
    (or 0).
    """
    if how == "zscore":
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=0).clamp(min=1e-9)
    low, span = x.amin(1, keepdim=True), x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    return torch.where(span > 0, (x - low) / span.clamp(min=1e-12), torch.full_like(x, 0.5))


def rewards(quality: Tensor, likelihood: Tensor, alpha: float = 0.4, how: Normaliser = "minmax") -> Tensor:
    """Return (1 - alpha) quality + alpha learnability, both [N, K] and normalised within a prompt (Eq. 2)."""
    return (1 - alpha) * normalised(quality, how) + alpha * normalised(likelihood, how)


def bradley_terry(scores: Tensor, reward: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over all pairs of teachers, scores and rewards [N, K] (Eq. 3).

    P(B beats A) = sigmoid(pi_B - pi_A); a tie counts half for either.
    """
    first, second = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1)
    logit = scores[:, second] - scores[:, first]
    gap = reward[:, second] - reward[:, first]
    wanted = 0.5 + 0.5 * torch.sign(torch.where(gap.abs() < 1e-6, torch.zeros_like(gap), gap))
    return F.binary_cross_entropy_with_logits(logit, wanted)


@dataclass(frozen=True)
class Routing:
    """Schedule of a router's training."""

    rows: int = 32
    steps: int = 200
    rate: float = 1e-3
    warmup: int = 10
    clip: float = 1.0
    seed: int = 0
    every: int = 100

    def rate_at(self, step: int) -> float:
        """Learning rate at ``step``."""
        return self.rate * warm_then_falling(step, self.steps, self.warmup)


class Router(nn.Module):
    """A decoder whose head gives one coefficient a teacher, read at the prompt's last token."""

    def __init__(self, start: PreTrainedModel, teachers: int) -> None:
        super().__init__()
        self.body: Any = copy.deepcopy(start.base_model)
        self.head = nn.Linear(int(start.config.hidden_size), teachers)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return coefficients [N, K] of prompts [N, T] of one length."""
        states = self.body(input_ids=tokens, use_cache=False).last_hidden_state
        return cast(Tensor, self.head(states[:, -1]))

    @torch.no_grad()
    def scores(self, prompts: Sequence[Sequence[int]], size: int = 128) -> Tensor:
        """Return coefficients [N, K] of prompts of any lengths."""
        out = torch.empty(len(prompts), self.head.out_features)
        for group in batches([len(p) for p in prompts], size):
            out[group] = self(torch.tensor([list(prompts[i]) for i in group])).float()
        return out


def fit_router(
    start: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    reward: Tensor,
    plan: Routing,
    work: Path,
    say: Sink = lambda line: None,
    tick: Tick = lambda done, total: None,
) -> Router:
    """Train a router from the student's own weights on labelled prompts, rewards [N, K]; resumes from
    ``work``.
    """
    router = Router(start, reward.shape[1])
    optimizer = torch.optim.AdamW(router.parameters(), lr=plan.rate, betas=(0.9, 0.95), weight_decay=0.01)
    lengths = np.array([len(p) for p in prompts])

    def loss_of(step: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng([plan.seed, step])
        length = lengths[int(rng.integers(len(prompts)))]
        same = np.flatnonzero(lengths == length)
        chosen = rng.choice(same, min(plan.rows, len(same)), replace=False)
        tokens = torch.tensor([list(prompts[i]) for i in chosen])
        return bradley_terry(router(tokens), reward[torch.from_numpy(chosen)]), tokens.numel()

    router.train()
    learn(Learning(router, optimizer, plan, loss_of, "router "), work, say, tick)
    return router.train(False)


def hit(scores: Tensor, reward: Tensor, k: int = 1) -> Tensor:
    """Return per prompt whether a teacher of the highest reward is among the ``k`` best by score, [N] of 0
    and 1.
    """
    best = reward >= reward.amax(1, keepdim=True) - 1e-6
    chosen = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return best.gather(1, chosen).any(1).float()


def car(quality: Tensor, loss: Tensor, beta: float = 1.0) -> Tensor:
    """Return each teacher's compatibility-adjusted reward [K]: mean reward / (1 + beta * mean student loss).

    ``beta`` is not published.
    """
    return quality.mean(0) / (1 + beta * loss.mean(0))


@dataclass(frozen=True)
class Labels:
    """What the labelled subset says: quality and mean log-likelihood [N, K] of every teacher's answer."""

    quality: Tensor
    likelihood: Tensor
    alpha: float = 0.4
    how: Normaliser = "minmax"

    def reward(self, route: Route = "persyn") -> Tensor:
        """The reward [N, K] that a learned route follows; ``quality`` and ``learnability`` drop one term."""
        alpha = {"quality": 0.0, "learnability": 1.0}.get(route, self.alpha)
        return rewards(self.quality, self.likelihood, alpha, self.how)

    def single(self, route: Route, beta: float = 1.0) -> int:
        """The one teacher that ``strong`` (best quality) or ``car`` takes for everything."""
        if route == "car":
            return int(car(self.quality, -self.likelihood, beta).argmax())
        return int(self.quality.mean(0).argmax())


def shuffled(routes: Sequence[int], seed: int) -> list[int]:
    """Return the same teachers in the same shares, dealt to other prompts."""
    return [routes[i] for i in np.random.default_rng([seed, 7]).permutation(len(routes))]


def mixed(count: int, teachers: int, seed: int) -> list[int]:
    """Return a teacher for each prompt, all as likely."""
    return [int(t) for t in np.random.default_rng([seed, 8]).integers(teachers, size=count)]
