"""The stack: one prediction from many heads', with weights learnt on predictions of rows a head did not see.

Two things are mixed apart: how hard a prompt is for everybody (the level), and who does better than that
(deviations). A deviation also follows the level along a curve of each model's own: on the easiest and the
hardest prompts all models do alike, and between them the better model gains most. With two labels a prompt
the level is far better known than the gain, so this curve is worth more than any single head.
Breiman, 'Stacked regressions' (1996): weights that are not negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_CURVE_RIDGE = 0.05


class Stack(NamedTuple):
    """level, deviation [H]: weights of the heads. centre, spread: of the predicted level. curve [4,M]: how a
    model's deviation follows (1, mixed deviation, level, level^2).
    """

    level: Tensor
    deviation: Tensor
    centre: Tensor
    spread: Tensor
    curve: Tensor

    def __call__(self, parts: Tensor) -> Tensor:
        """Mix the heads' parts [H,N,1+M] to [N,1+M]."""
        level = _level(parts, self.level)
        mixed = torch.einsum("h,hnm->nm", self.deviation, parts[:, :, 1:])
        basis = _basis(mixed, (level - self.centre) / self.spread)
        return torch.cat([level[:, None], torch.einsum("nmk,km->nm", basis, self.curve)], 1)


def _level(parts: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("h,hn->n", weights, parts[:, :, 0])


def _basis(mixed: Tensor, level: Tensor) -> Tensor:
    """(1, mixed deviation, level, level^2) of every row and model: [N,M,4]. The level stays within 3
    spreads.
    """
    bent = level.clamp(-3, 3)[:, None].expand_as(mixed)
    return torch.stack([torch.ones_like(mixed), mixed, bent, bent.square()], 2)


def fit_stack(parts: Tensor, values: Tensor, bend: bool = True) -> Stack:
    """Fit on out-of-fold parts [H,N,1+M] and the true values [N,1+M] (NaN: no label).

    `bend` False leaves the curve straight: deviations then come from the heads alone.
    """
    deviation_known = ~values[:, 1:].isnan()
    level = _weights(parts[:, :, :1], values[:, :1])
    deviation = _weights(parts[:, :, 1:], values[:, 1:])
    height = _level(parts, level)
    centre, spread = height.mean(), height.std().clamp_min(1e-6)
    mixed = torch.einsum("h,hnm->nm", deviation, parts[:, :, 1:])
    straight = torch.zeros(4, values.shape[1] - 1)
    straight[1] = 1.0
    if not bend or float(height.std()) < 1e-6:
        return Stack(level, deviation, centre, spread, straight)
    basis = _basis(mixed, (height - centre) / spread)
    for model in range(straight.shape[1]):
        rows = deviation_known[:, model]
        straight[:, model] = _bent(basis[rows, model], values[rows, 1 + model])
    return Stack(level, deviation, centre, spread, straight)


def _bent(basis: Tensor, target: Tensor) -> Tensor:
    """Ridge regression of a deviation on its basis [n,4], drawn to the mixed deviation itself."""
    if target.numel() < 20:
        return torch.tensor([0.0, 1.0, 0.0, 0.0])
    x, y = basis.double(), target.double() - basis[:, 1].double()
    size = x.square().mean(0).sqrt().clamp_min(1e-9)
    x = x / size
    penalty = _CURVE_RIDGE * x.shape[0] * torch.eye(4, dtype=torch.float64)
    penalty[0, 0] = 1e-9
    found: Tensor = torch.linalg.solve(x.T @ x + penalty, x.T @ y) / size
    found[1] += 1.0
    return found.float()


def _weights(parts: Tensor, target: Tensor) -> Tensor:
    """Weights [H] of parts [H,N,T] for targets [N,T], none negative.

    They are drawn to equal ones as a normal prior of mean and deviation 1/H would: all but equal while what
    the heads explain drowns in the labels' noise, free once it does not.
    """
    known = ~target.isnan()
    x = parts[:, known].double()
    y = target[known].double()
    count = x.shape[0]
    gram, cross = x @ x.T, x @ y
    noise = (y - x.mean(0)).square().mean()
    pull = noise * count**2
    gram = gram + pull * torch.eye(count, dtype=torch.float64)
    cross = cross + pull / count
    return not_negative(gram, cross).float()


def not_negative(gram: Tensor, cross: Tensor, steps: int = 500) -> Tensor:
    """Minimise w'Gw/2 - c'w over w >= 0 by coordinate descent; G [H,H] positive definite, c [H]."""
    w = torch.zeros_like(cross)
    if float(gram.diagonal().max()) <= 0:
        return torch.full_like(cross, 1 / cross.numel())
    for _ in range(steps):
        before = w.clone()
        for i in range(w.numel()):
            slope = cross[i] - gram[i] @ w + gram[i, i] * w[i]
            w[i] = torch.clamp(slope / gram[i, i].clamp_min(1e-12), min=0.0)
        if float((w - before).abs().max()) < 1e-9:
            break
    return w


def folds_of(keys: Sequence[object], folds: int, seed: int) -> Tensor:
    """A fold for each row [N]; equal keys (duplicates, or groups to be left out whole) share one."""
    names = list(dict.fromkeys(keys))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    place = {name: order[i] % folds for i, name in enumerate(names)}
    return torch.tensor([place[key] for key in keys])
