"""Fit probes that compete: one softmax over whose prompt it is, nobody's among them.

P(s) = exp(z_s) / (1 + sum_j exp(z_j)), z_s = w_s . x + b_s: multinomial logistic regression whose last class,
nobody, has logit 0. Each z_s is linear, so its explanation stays exact; what the others say counts when
logits become probabilities (`ProbeBank`). Fitted apart, each probe draws the line between its own prompts
and all others at once; fitted together, the lines between those that are hard to tell apart are what matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...store.errors import UsageError
from ..checks import matrix
from .fit import group_folds, standardise

# The penalty is l2/2 |W|^2 beside the mean log-loss, on standardised columns.
RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_STEPS, _CHOOSING = 150, 50
_FOLDS = 3


class Joint(NamedTuple):
    """weight [K,F] float32 and bias [K] of classes 0 to K-1, on the unstandardised x; the ridge chosen."""

    weight: Tensor
    bias: Tensor
    l2: float

    def logits(self, x: Tensor) -> Tensor:
        """[N,F] -> [N,K], float64."""
        return x.double() @ self.weight.double().T + self.bias


def log_odds(logits: Tensor) -> Tensor:
    """Log-odds of each class against all others and nobody: z_s - log(1 + sum over j != s of exp z_j).

    logits [...,K] -> [...,K].
    """
    count = logits.shape[-1]
    others = logits[..., None, :].expand(*logits.shape, count)
    own = torch.eye(count, dtype=torch.bool, device=logits.device)
    rivals = torch.cat([others.masked_fill(own, -torch.inf), torch.zeros_like(logits)[..., None]], -1)
    return logits - torch.logsumexp(rivals, -1)


def log_odds_of(logits: Sequence[float]) -> list[float]:
    """`log_odds` of one prompt's finite logits, as plain numbers: of so few, tensors cost ten times more."""
    top = max(0.0, *logits)
    weights = [math.exp(z - top) for z in logits]
    total = math.exp(-top) + sum(weights)
    return [
        # the best one's rivals would be lost in the rounding of the total; of the others' it is a part
        z - top - math.log(total - weights[at]) if z < top else z - _log_sum(logits, at)
        for at, z in enumerate(logits)
    ]


def _log_sum(logits: Sequence[float], without: int) -> float:
    """log(1 + sum of exp z_j) over all j but one."""
    rest = [0.0, *logits[:without], *logits[without + 1 :]]
    top = max(rest)
    return top + math.log(sum(math.exp(z - top) for z in rest))


def fit_joint(
    x: Tensor,
    member: Sequence[int],
    count: int,
    groups: Sequence[object],
    l2: float | None = None,
    seed: int = 0,
) -> Joint:
    """Fit x [N,F] to classes `member` [N]: 0 to count - 1, and `count` for nobody's.

    l2 None: chosen of `RIDGES` by the log-loss on whole groups left out. Raises UsageError where a class has
    no row, or groups are not one a row.
    """
    rows, y = matrix("x", x), torch.tensor(list(member))
    if len(y) != len(rows) or len(groups) != len(rows):
        raise UsageError(f"{len(rows)} rows have {len(y)} classes and {len(groups)} groups; give one a row")
    if set(y.tolist()) != set(range(count + 1)):
        raise UsageError(
            f"the rows are of classes {sorted(set(y.tolist()))}; each of 0 to {count} needs a row, and no "
            "other; draw prompts for every class"
        )
    standard = standardise(rows)
    z = standard.x.float()
    ridge = l2 if l2 is not None else _chosen(z, y, count + 1, groups, seed)
    theta, bias = _softmax(z, y, count + 1, ridge, _STEPS)
    # against nobody, whose logit is 0 from here on
    theta, bias = theta[:, :count] - theta[:, count:], bias[:count] - bias[count:]
    weight = (theta.double() * standard.scale[:, None]).T
    return Joint(weight.float().contiguous(), bias.double() - weight @ standard.mean, ridge)


def _chosen(z: Tensor, y: Tensor, classes: int, groups: Sequence[object], seed: int) -> float:
    """The ridge of the lowest log-loss on groups left out."""
    fold = group_folds(groups, _FOLDS, seed)
    losses = []
    for ridge in RIDGES:
        loss = 0.0
        for number in range(_FOLDS):
            held = fold == number
            theta, bias = _softmax(z[~held], y[~held], classes, ridge, _CHOOSING)
            loss += float(torch.nn.functional.cross_entropy(z[held] @ theta + bias, y[held], reduction="sum"))
        losses.append(loss)
    return RIDGES[losses.index(min(losses))]


@torch.enable_grad()
def _softmax(z: Tensor, y: Tensor, classes: int, ridge: float, steps: int) -> tuple[Tensor, Tensor]:
    """Weights [F,K] and biases [K] by L-BFGS; none of K is set apart yet."""
    theta, bias = torch.zeros(z.shape[1], classes), torch.zeros(classes)
    for one in (theta, bias):
        one.requires_grad_()
    solver = torch.optim.LBFGS([theta, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(z @ theta + bias, y) + 0.5 * ridge * theta.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return theta.detach(), bias.detach()
