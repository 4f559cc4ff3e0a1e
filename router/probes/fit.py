"""Fit a linear probe: L2 logistic regression on standardised vectors, by L-BFGS in float64.

The ridge is chosen by k-fold log-loss. All folds and all ridges are solved at once: a hundred candidate
solutions cost one matrix product per step, hardly more than one of them would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ...store.errors import UsageError
from ..checks import Numbers, both_classes, labels, matrix, numbers

# Ridge per example: the penalty is l2/2 |w|^2 beside the MEAN log-loss, on standardised columns.
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_HISTORY = 10
_TINY = 1e-30


class _Problem(NamedTuple):
    """K logistic regressions over the same rows: x [N,F], y [N], weights [N,K] (columns sum to 1), l2 [K]."""

    x: Tensor
    y: Tensor
    weights: Tensor
    l2: Tensor

    def loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses [K] and gradients [F+1,K] at theta [F+1,K], whose last row is the bias."""
        logit = self.x @ theta[:-1] + theta[-1]
        loss = (self.weights * (softplus(logit) - self.y[:, None] * logit)).sum(0)
        residual = self.weights * (torch.sigmoid(logit) - self.y[:, None])
        ridge = self.l2 * theta[:-1]
        gradient = torch.cat([self.x.T @ residual + ridge, residual.sum(0, keepdim=True)])
        return loss + 0.5 * (ridge * theta[:-1]).sum(0), gradient


def _direction(gradient: Tensor, history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Two-loop recursion of L-BFGS (Nocedal and Wright, algorithm 7.4), column by column."""
    q = gradient.clone()
    stack = []
    for s, y in reversed(history):
        curvature = (s * y).sum(0)
        rho = torch.where(curvature > _TINY, 1 / curvature.clamp_min(_TINY), torch.zeros_like(curvature))
        alpha = rho * (s * q).sum(0)
        q -= alpha * y
        stack.append((s, y, rho, alpha))
    if history:
        s, y = history[-1]
        square = (y * y).sum(0)
        scale = (s * y).sum(0) / square.clamp_min(_TINY)
        q *= torch.where((square > 0) & (scale > 0), scale, torch.ones_like(scale))
    for s, y, rho, alpha in reversed(stack):
        q += s * (alpha - rho * (y * q).sum(0))
    return -q


def _minimise(problem: _Problem, theta: Tensor, steps: int, tolerance: float) -> Tensor:
    """L-BFGS with backtracking, every column with its own step length. Columns are separate problems."""
    loss, gradient = problem.loss_and_gradient(theta)
    history: list[tuple[Tensor, Tensor]] = []
    for _ in range(steps):
        if float(gradient.abs().amax()) < tolerance:
            break
        direction = _direction(gradient, history)
        slope = (direction * gradient).sum(0)
        direction = torch.where(slope < 0, direction, -gradient)
        slope = torch.where(slope < 0, slope, -(gradient * gradient).sum(0))
        first = torch.ones_like(loss) if history else 1 / gradient.abs().sum(0).clamp_min(1.0)
        length, new_loss, new_gradient = _backtrack(problem, theta, direction, loss, slope, first)
        if not bool((length > 0).any()):
            break
        step = length * direction
        history = [*history[1 - _HISTORY :], (step, new_gradient - gradient)]
        theta, loss, gradient = theta + step, new_loss, new_gradient
    return theta


def _backtrack(
    problem: _Problem, theta: Tensor, direction: Tensor, loss: Tensor, slope: Tensor, length: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve each column's step until Armijo's rule holds; a column that never does stays where it is."""
    for _ in range(20):
        new_loss, new_gradient = problem.loss_and_gradient(theta + length * direction)
        bad = new_loss > loss + 1e-4 * length * slope
        if not bool(bad.any()):
            return length, new_loss, new_gradient
        length = torch.where(bad, length / 2, length)
    length = torch.where(bad, torch.zeros_like(length), length)
    new_loss, new_gradient = problem.loss_and_gradient(theta + length * direction)
    return length, new_loss, new_gradient


class Standard(NamedTuple):
    """Columns moved to mean 0 and deviation 1; a constant column becomes 0 and so gets no weight."""

    x: Tensor
    mean: Tensor
    scale: Tensor


def standardise(x: Tensor) -> Standard:
    """Standardise x [N,F] in float64."""
    values = x.detach().cpu().double()
    mean = values.mean(0)
    deviation = (values - mean).square().mean(0).sqrt()
    varies = deviation > 1e-7 * (mean.abs() + deviation.mean() + 1e-30)
    scale = torch.where(varies, 1 / deviation.clamp_min(_TINY), torch.zeros_like(deviation))
    return Standard((values - mean) * scale, mean, scale)


def _example_weights(y: Tensor, balance: bool) -> Tensor:
    if not balance:
        return torch.full_like(y, 1 / y.numel())
    return torch.where(y == 1, 0.5 / y.sum(), 0.5 / (y.numel() - y.sum()))


def _start(y: Tensor, weights: Tensor, width: int) -> Tensor:
    """Zero weights and the bias that predicts the base rate: where an imbalanced problem is nearly solved."""
    share = ((weights * y[:, None]).sum(0) / weights.sum(0)).clamp(1e-6, 1 - 1e-6)
    theta = weights.new_zeros(width + 1, weights.shape[1])
    theta[-1] = torch.logit(share)
    return theta


def group_folds(groups: Sequence[object], folds: int, seed: int) -> Tensor:
    """Return a fold index per row [N] that keeps whole groups together; groups are dealt out by `seed`."""
    names = list(dict.fromkeys(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    fold_of = {name: order[i] % folds for i, name in enumerate(names)}
    return torch.tensor([fold_of[group] for group in groups])


def _folds(y: Tensor, groups: Sequence[object] | None, folds: int, seed: int) -> Tensor:
    """Return a fold index per row [N]: stratified by label, or whole groups together."""
    if groups is not None:
        return group_folds(groups, folds, seed)
    generator = torch.Generator().manual_seed(seed)
    fold = torch.empty(y.numel(), dtype=torch.long)
    for label in (0, 1):
        members = torch.nonzero(y == label)[:, 0]
        fold[members[torch.randperm(members.numel(), generator=generator)]] = (
            torch.arange(members.numel()) % folds
        )
    return fold


def _checked(x: Tensor, y: Numbers, groups: Sequence[object] | None, folds: int) -> Tensor:
    rows = matrix("x", x)
    target = labels("y", y, rows.shape[0])
    both_classes("y", target)
    if groups is not None and len(groups) != rows.shape[0]:
        raise UsageError(f"groups has {len(groups)} entries for {rows.shape[0]} rows; give one group a row")
    if folds < 2:
        raise UsageError(f"folds is {folds}; cross-validation needs at least 2")
    return target


def _softened(targets: Tensor, count: int) -> Tensor:
    """Return soft labels as float64 [count]; raises UsageError for another shape or values beyond [0, 1]."""
    soft = numbers("targets", targets)
    if soft.numel() != count or float(soft.min()) < 0 or float(soft.max()) > 1:
        raise UsageError(
            f"targets has {soft.numel()} values from {float(soft.min()):g} to {float(soft.max()):g} for "
            f"{count} rows; give one from 0 to 1 a row"
        )
    return soft


def choose_l2(
    x: Tensor,
    y: Numbers,
    *,
    ridges: Sequence[float] = RIDGES,
    folds: int = 5,
    groups: Sequence[object] | None = None,
    balance: bool = False,
    seed: int = 0,
) -> float:
    """Return the ridge with the lowest k-fold log-loss.

    `groups` [N] (for example template ids) keeps each group inside one fold, so that the ridge is chosen
    for unseen groups. With fewer than two examples of a class nothing can be held out: 0.1 is returned.
    Raises UsageError as `fit_logistic`.
    """
    target = _checked(x, y, groups, folds)
    return _choose(standardise(x).x, target, tuple(ridges), folds, groups, balance, seed)


def _choose(
    x64: Tensor,
    y64: Tensor,
    ridges: tuple[float, ...],
    folds: int,
    groups: Sequence[object] | None,
    balance: bool,
    seed: int,
) -> float:
    # A choice between powers of ten needs no more than float32; the fit itself is float64.
    x, y = x64.float(), y64.float()
    hard = y.ceil()  # a soft label counts with the positives where rows are dealt out
    rarer = int(min(hard.sum(), y.numel() - hard.sum()))
    count = min(folds, rarer if groups is None else len(set(groups)))
    if count < 2:
        return 0.1
    fold = _folds(hard, groups, count, seed)
    held = torch.stack([fold == i for i in range(count) for _ in ridges], dim=1)  # [N,K]
    base = _example_weights(hard, balance)[:, None]
    weights = torch.where(held, torch.zeros_like(base), base)
    weights = weights / weights.sum(0).clamp_min(_TINY)
    problem = _Problem(x, y, weights, torch.tensor(list(ridges) * count))
    theta = _minimise(problem, _start(y, weights, x.shape[1]), steps=30, tolerance=1e-4)
    logit = x @ theta[:-1] + theta[-1]
    loss = torch.where(held, base * (softplus(logit) - y[:, None] * logit), torch.zeros_like(logit)).sum(0)
    return ridges[int(loss.view(count, len(ridges)).sum(0).argmin())]


def fit_logistic(
    x: Tensor,
    y: Numbers,
    l2: float | None = None,
    *,
    folds: int = 5,
    groups: Sequence[object] | None = None,
    balance: bool = False,
    seed: int = 0,
    targets: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Fit x [N,F] to labels y [N] in {0,1}; return (weight [F] float32, bias) on the UNstandardised x.

    Minimises mean log-loss + l2/2 |w|^2 on standardised columns, bias free. `l2=None` chooses it by k-fold
    log-loss (see `choose_l2`). `balance` gives both classes equal weight: better ranking of a rare class,
    probabilities that need calibration. `targets` [N] in [0,1] are soft labels, fitted in place of y (which
    still forms the folds and the weights): 0.5 takes no side. Raises UsageError for wrong shapes, labels
    other than 0 and 1, numbers that are not finite, a single class, or l2 <= 0.
    """
    checked = _checked(x, y, groups, folds)
    target = checked if targets is None else _softened(targets, checked.numel())
    if l2 is not None and not l2 > 0:
        raise UsageError(f"l2 is {l2}; it must be above 0, or None to have it chosen")
    standard = standardise(x)
    ridge = l2 if l2 is not None else _choose(standard.x, target, RIDGES, folds, groups, balance, seed)
    weights = _example_weights(checked, balance)[:, None]
    problem = _Problem(standard.x, target, weights, torch.tensor([ridge], dtype=torch.float64))
    theta = _minimise(problem, _start(target, weights, x.shape[1]), steps=500, tolerance=1e-7)[:, 0]
    weight = (theta[:-1] * standard.scale).float()
    # The bias is folded with the weight as it is kept, so that float32 rounding cannot shift the logit.
    return weight, float(theta[-1] - weight.double() @ standard.mean)
