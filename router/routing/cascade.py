"""Cascades: ask one model, look at its answer's own signals, and only then decide whether to ask another.

A signal is any number that comes with an answer: its mean log-probability, its length, a verifier's score.
P(right | prompt, signals) is logistic in the logit of P(correct) from the prompt and the signals; what is
known of the first answer also moves the chances of the others, because a prompt that is hard for one model
is mostly hard for all. Chen, Zaharia and Zou, 'FrugalGPT' (2023), with the router's own P(correct) as a
feature of the scorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...store.errors import UsageError
from .stack import folds_of
from .table import Table
from .trust import LEAST, MOST, logistic

_FEWEST = 40  # labelled answers with signals that a model needs
_RIDGE = 1.0


class Looked(NamedTuple):
    """Chances once an answer was seen: P(right) of that answer [N], and of every model [N,M] if asked now."""

    answer: Tensor
    others: Tensor


@dataclass(frozen=True, eq=False)
class Cascade:
    """For each of M models, what its answer's S signals say.

    mean, scale [M,S]; weight [M,1+S]: of the logit of P(correct) from the prompt and of the standardised
    signals; offset [M]; follow [M]: how far others' logits follow. NaN in `offset`: too few answers.
    """

    models: tuple[str, ...]
    names: tuple[str, ...]
    mean: Tensor
    scale: Tensor
    weight: Tensor
    offset: Tensor
    follow: Tensor

    def place(self, model: str) -> int:
        """A model's number. Raises UsageError for one that is not there or whose signals tell nothing."""
        if model not in self.models:
            raise UsageError(f"there is no model {model!r}; it has {', '.join(self.models)}")
        found = self.models.index(model)
        if bool(self.offset[found].isnan()):
            raise UsageError(f"the table had under {_FEWEST} answers of {model!r} with signals; add some")
        return found

    def look(self, model: str, p: Tensor, signals: Tensor) -> Looked:
        """Chances [N] and [N,M] after `model` answered with signals [N,S], given p [N,M] from the prompts."""
        at = self.place(model)
        before = torch.logit(p.clamp(LEAST, MOST))
        x = torch.cat([before[:, at : at + 1], (signals - self.mean[at]) * self.scale[at]], 1)
        after = x @ self.weight[at] + self.offset[at]
        others = torch.sigmoid(before + self.follow[at] * (after - before[:, at])[:, None])
        return Looked(torch.sigmoid(after), others)

    def row(self, signals: Mapping[str, float]) -> Tensor:
        """Signals by name as a row [1,S]. Raises UsageError when one is missing or unknown."""
        wrong = sorted(set(signals) ^ set(self.names))
        if wrong:
            raise UsageError(f"the signals are {', '.join(self.names)}; {wrong[0]!r} is missing or not known")
        return torch.tensor([[float(signals[name]) for name in self.names]])


def signals_of(table: Table) -> Tensor:
    """The table's signals [N,M,S]. Raises UsageError where it has none."""
    if not table.signals:
        raise UsageError("the table has no column 'signal_…', so nothing is known of the answers; add one")
    return torch.stack(list(table.signals.values()), 2)


def enough(table: Table) -> bool:
    """Whether some model has enough labelled answers with all signals."""
    if not table.signals:
        return False
    return int((table.labelled & ~signals_of(table).isnan().any(2)).sum(0).max()) >= _FEWEST


def fit_cascade(table: Table, p: Tensor) -> Cascade:
    """Fit on a table with signals and P(correct) [N,M] of rows that the heads had not seen.

    Raises UsageError where no model has enough answers with signals.
    """
    signals = signals_of(table)
    fitted = [_fit(number, p, signals[:, number], table.quality) for number in range(len(table.models))]
    if all(bool(one[3].isnan()) for one in fitted):
        raise UsageError(f"no model has {_FEWEST} labelled answers with all signals; a cascade needs them")
    mean, scale, weight, offset, follow = (torch.stack(one).float() for one in zip(*fitted, strict=True))
    return Cascade(table.models, tuple(table.signals), mean, scale, weight, offset, follow)


def _fit(number: int, p: Tensor, signals: Tensor, quality: Tensor) -> tuple[Tensor, ...]:
    """mean, scale [S], weight [1+S], offset, follow of one model, float64."""
    known = ~quality[:, number].isnan() & ~signals.isnan().any(1)
    size = signals.shape[1]
    if int(known.sum()) < _FEWEST:
        nothing = torch.zeros(size, dtype=torch.float64)
        return (
            nothing,
            nothing,
            torch.zeros(1 + size).double(),
            torch.tensor(torch.nan).double(),
            nothing.sum(),
        )
    x, y = signals[known].double(), quality[known, number].double()
    mean, scale = x.mean(0), 1 / x.std(0).clamp_min(1e-9)
    before = torch.logit(p[known].double().clamp(LEAST, MOST))
    columns = torch.cat([before[:, number : number + 1], (x - mean) * scale, torch.ones_like(y)[:, None]], 1)
    ridge = torch.full((2 + size,), _RIDGE, dtype=torch.float64)
    prior = torch.zeros(2 + size, dtype=torch.float64)
    prior[0] = 1.0  # signals that say nothing leave P(correct) as it was
    theta = logistic(columns, y, ridge, prior)
    moved = columns @ theta - before[:, number]
    return mean, scale, theta[:-1], theta[-1], _follow(number, before, moved, quality[known])


def _follow(number: int, before: Tensor, moved: Tensor, quality: Tensor) -> Tensor:
    """How far the other models' logits follow: one slope over all their labels."""
    rest = [i for i in range(quality.shape[1]) if i != number]
    labels, known = quality[:, rest], ~quality[:, rest].isnan()
    if not bool(known.any()):
        return torch.zeros((), dtype=torch.float64)
    x = moved[:, None].expand(-1, len(rest))[known][:, None]
    found = logistic(
        x,
        labels[known].double(),
        torch.tensor([_RIDGE]).double(),
        torch.zeros(1).double(),
        before[:, rest][known],
    )
    return found[0].clamp(0.0, 1.0)


class Played(NamedTuple):
    """What a cascade gives: mean quality, mean price (everybody asked is paid), share that went on."""

    quality: float
    price: float
    share: float


def play(cascade: Cascade, first: str, p: Tensor, table: Table, prices: Tensor, lam: float) -> Played:
    """Ask `first`, and then whoever gains more than lam times its price, on rows with every label."""
    at = cascade.place(first)
    rows = table.labelled.all(1) & ~signals_of(table)[:, at].isnan().any(1)
    looked = cascade.look(first, p[rows], signals_of(table)[rows, at])
    return _played(table.quality[rows], at, *going_on(looked, at, prices, lam), prices)


def going_on(looked: Looked, at: int, prices: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Whom to ask next [N], and whether that is worth its price [N]."""
    utility = looked.others - lam * prices
    utility[:, at] = -torch.inf
    value, who = utility.max(1)
    return who, value > looked.answer


def _played(quality: Tensor, at: int, who: Tensor, goes: Tensor, prices: Tensor) -> Played:
    second = quality.gather(1, who[:, None])[:, 0]
    found = torch.where(goes, second, quality[:, at])
    price = prices[at] + goes * prices[who]
    return Played(float(found.mean()), float(price.mean()), float(goes.float().mean()))


def cross_played(
    table: Table, p: Tensor, first: str, prices: Tensor, lams: Sequence[float], folds: int = 5
) -> list[Played]:
    """`play` at many lam, every row by a cascade that was fitted on the other folds; p [N,M] as in
    `fit_cascade`.
    """
    fold = folds_of(table.keys, folds, 0)
    signals = signals_of(table)
    at = table.models.index(first)
    rows = torch.nonzero(table.labelled.all(1) & ~signals[:, at].isnan().any(1))[:, 0]
    answer, others = torch.zeros(len(table)), torch.zeros_like(p)
    for number in range(folds):
        inside, outside = torch.nonzero(fold != number)[:, 0], torch.nonzero(fold == number)[:, 0]
        fitted = fit_cascade(table.take(inside), p[inside])
        answer[outside], others[outside] = fitted.look(first, p[outside], signals[outside, at])
    looked = Looked(answer[rows], others[rows])
    return [_played(table.quality[rows], at, *going_on(looked, at, prices, lam), prices) for lam in lams]
