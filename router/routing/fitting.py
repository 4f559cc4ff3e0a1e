"""Fit a routing policy: every head on every fold, the stack on what the folds held out, then all of it on
all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...store.errors import UsageError
from .heads import Head
from .recipes import RECIPES, STACKED, usable
from .seen import Seen, Targets, quality_of, targets_of
from .stack import Stack, fit_stack, folds_of
from .table import Table
from .trust import Curves, Familiar, fit_curves, straight

Say = Callable[[str], None]
Objective = str  # "auto", "gain" or "correct"
OBJECTIVES = ("auto", "gain", "correct")
_LARGE = 20_000
_CALIBRATED = 0.015
_FEWEST = 20


@dataclass(frozen=True, eq=False)
class Options:
    """heads: what to stack. objective: `gain` keeps differences between models as they are predicted,
    `correct` bends each model's prediction to its own calibration curve, `auto` bends only where the straight
    one is off by more than 0.015 (ECE). folds None: 5, or 3 for large tables. bend: see `fit_stack`.
    by_group: hold out whole groups while fitting, for a router that will meet groups that the table lacks.
    apart: a name for each row instead; rows that share one (a template, an author) are held out together,
    so that the stack trusts, and the curves bend by, what carries over to names that the table lacks.
    """

    heads: Sequence[str] = STACKED
    objective: Objective = "auto"
    folds: int | None = None
    seed: int = 0
    bend: bool = True
    by_group: bool = False
    apart: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UsageError(f"objective is {self.objective!r}; it is one of {', '.join(OBJECTIVES)}")
        if not self.heads:
            raise UsageError(f"no head is named; choose of {', '.join(RECIPES)}")


@dataclass(frozen=True, eq=False)
class Fitted:
    """Heads, stack and curves, and what they say of rows they had not seen.

    out_of_fold [N,M]: P(correct); heads_out_of_fold {name: quality [N,M]}. left_out: why a head is missing.
    """

    models: tuple[str, ...]
    heads: dict[str, Head]
    stack: Stack
    base: Tensor
    curves: Curves
    objective: str
    familiar: Familiar | None
    out_of_fold: Tensor
    heads_out_of_fold: dict[str, Tensor]
    left_out: dict[str, str]

    def quality(self, seen: Seen) -> Tensor:
        """Predicted quality [N,M], not kept within 0 and 1."""
        parts = torch.stack([head.predict(seen) for head in self.heads.values()])
        return quality_of(self.stack(parts), self.base)

    def p_correct(self, seen: Seen) -> Tensor:
        """P(correct) [N,M]."""
        return self.curves(self.quality(seen))


def fit(table: Table, seen: Seen, options: Options | None = None, say: Say | None = None) -> Fitted:
    """Fit on a table and what a scout saw of its prompts. Raises UsageError where nothing can be learnt."""
    options, tell = options or Options(), say or _quiet
    table.require_learnable()
    if len(table) < _FEWEST:
        raise UsageError(f"the table has {len(table)} prompts; at least {_FEWEST} with labels are needed")
    left_out = {name: why for name in options.heads if (why := usable(name, seen, table.quality))}
    names = [name for name in options.heads if name not in left_out]
    if not names:
        raise UsageError(f"no head can be fitted: {'; '.join(f'{n}: {w}' for n, w in left_out.items())}")
    targets = targets_of(table.quality)
    count = options.folds or (3 if len(table) > _LARGE else 5)
    fold = folds_of(_together(table, options), count, options.seed)
    parts, heads = {}, {}
    for name in names:
        parts[name] = held_out(name, seen, table.quality, fold, targets.base)
        heads[name] = RECIPES[name](seen, table.quality)
        tell(f"fitted {name}")
    together = torch.stack(list(parts.values()))
    stack = fit_stack(together, targets.values, options.bend)
    predicted = cross_fitted(together, targets, fold, options.bend)
    objective, curves = choose_curves(predicted, table.quality, options.objective)
    return Fitted(
        table.models,
        heads,
        stack,
        targets.base,
        curves,
        objective,
        Familiar.fit(seen.states) if seen.states is not None else None,
        curves(predicted),
        {name: quality_of(one, targets.base) for name, one in parts.items()},
        left_out,
    )


def _together(table: Table, options: Options) -> Sequence[str]:
    """Names of the rows: those that share one are held out together."""
    if options.apart and len(options.apart) != len(table):
        raise UsageError(
            f"{len(options.apart)} names to hold apart for {len(table)} prompts: give one a prompt"
        )
    return options.apart or (table.groups if options.by_group and table.groups else table.keys)


def cross_fitted(parts: Tensor, targets: Targets, fold: Tensor, bend: bool) -> Tensor:
    """Quality [N,M] by stacks that were fitted on the other folds: what the stack says of rows it did not
    see.
    """
    found = torch.zeros(parts.shape[1], parts.shape[2] - 1)
    for number in sorted(set(fold.tolist())):
        inside, outside = fold != number, fold == number
        stack = fit_stack(parts[:, inside], targets.values[inside], bend)
        found[outside] = quality_of(stack(parts[:, outside]), targets.base)
    return found


def held_out(name: str, seen: Seen, quality: Tensor, fold: Tensor, base: Tensor) -> Tensor:
    """Parts [N,1+M] of each row by a head that was fitted on the other folds."""
    found = torch.zeros(len(seen), 1 + quality.shape[1])
    for number in sorted(set(fold.tolist())):
        inside, outside = torch.nonzero(fold != number)[:, 0], torch.nonzero(fold == number)[:, 0]
        own: Targets = targets_of(quality[inside])
        head = RECIPES[name](seen.take(inside), quality[inside])
        predicted = head.predict(seen.take(outside))
        # the fold's means differ a little from the table's
        predicted = predicted + torch.cat([torch.zeros(1), own.base - base])
        found[outside] = predicted
    return found


def choose_curves(predicted: Tensor, quality: Tensor, objective: Objective) -> tuple[str, Curves]:
    """The curves of an objective, and which it was."""
    plain = straight(quality.shape[1])
    if objective == "gain":
        return "gain", plain
    bent = fit_curves(predicted, quality)
    if objective == "correct":
        return "correct", bent
    worst = max(calibration_errors(plain(predicted), quality))
    if worst > _CALIBRATED and max(calibration_errors(bent(predicted), quality)) < worst:
        return "correct", bent
    return "gain", plain


def calibration_errors(p: Tensor, quality: Tensor, bins: int = 15) -> list[float]:
    """Expected calibration error of each model (Guo et al. 2017, eq. 3), on soft labels too."""
    found = []
    for q, y in zip(p.T, quality.T, strict=True):
        known = ~y.isnan()
        place = (torch.ceil(q[known] * bins) - 1).clamp(0, bins - 1).long()
        gaps = torch.zeros(bins).index_add_(0, place, q[known] - y[known])
        found.append(float(gaps.abs().sum() / max(1, int(known.sum()))))
    return found


def _quiet(line: str) -> None:
    """Tell nothing."""
