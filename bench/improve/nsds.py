"""NSDS against its baselines: few bits for layers of little decoders and of the shipped trunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...specialists.family import STARTER, Family
from ...specialists.improve.nsds import rivals
from ...specialists.improve.nsds.bits import Rounded, allocate, greedy, leave_one
from ...specialists.improve.nsds.parts import parts_of, unembedding
from ...specialists.improve.nsds.scores import Switches, sensitivity
from .. import estimates
from ..estimates import Array, Estimate
from ..page import Goal, Section, cell, show
from .lab import Lab
from .little import byte_model, decoder, loss_on, text

Method = Literal["nearest", "hqq"]
TRUNK = "starter trunk"
BUDGETS, DRAWS = (3.0, 2.5), 30
METHODS: tuple[Literal["hqq", "nearest"], ...] = ("hqq", "nearest")
PLAIN = Switches()
SWITCHES = {
    "NSDS, magnitude x rank": PLAIN,
    "NSDS, magnitude / rank": replace(PLAIN, expressiveness="divide"),
    "NSDS, numerical only": replace(PLAIN, aspects="numerical"),
    "NSDS, structural only": replace(PLAIN, aspects="structural"),
    "NSDS, without roles": replace(PLAIN, roles=False),
    "NSDS, energy 0.99": replace(PLAIN, energy=0.99),
    "NSDS, gains folded in": replace(PLAIN, gains=True),
}
OURS, DIVIDE, NUMBER, SHAPE = list(SWITCHES)[:4]
INVERSE, GREEDY = "inverse of NSDS", "greedy oracle (reads the test rows)"


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model, held-out rows to measure on, and other rows for scores that read data."""

    name: str
    model: Any
    test: Tensor
    other: Tensor


@dataclass(frozen=True)
class Case:
    """Losses under one budget and one way of rounding: of every allocation, and of random ones."""

    subject: str
    budget: float
    method: str
    losses: dict[str, float]
    random: list[float]


class Remembered(Rounded):
    """Measures no allocation twice; asked for one kind of loss only."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._known: dict[tuple[int | None, ...], float] = {}

    def loss(self, bits: Sequence[int | None], loss: Callable[[], float]) -> float:
        """Return the loss under `bits`, as it was found the first time."""
        key = tuple(bits)
        if key not in self._known:
            self._known[key] = super().loss(bits, loss)
        return self._known[key]


def scores_of(subject: Subject) -> dict[str, Tensor]:
    """Every score [L] of a subject's layers."""
    parts, head = parts_of(subject.model), unembedding(subject.model)
    folded = parts_of(subject.model, gains=True)
    found = {n: sensitivity(folded if s.gains else parts, head, s).layers for n, s in SWITCHES.items()}
    found |= {name.upper(): score(parts) for name, score in rivals.BY_WEIGHTS.items()}
    anatomy, rows = Anatomy.of(subject.model), [row[:64].tolist() for row in subject.other[:8]]
    found |= {f"{name.upper()} (reads text)": score(anatomy, rows) for name, score in rivals.BY_DATA.items()}
    return found | {"first and last layers": rivals.ends(len(parts)), INVERSE: -found[OURS]}


def measured(
    subject: Subject, seed: int, draws: int
) -> tuple[list[Case], dict[str, list[tuple[float, float]]]]:
    """Measure all cases of a subject, and return (rank of score, rank of damage) of each layer by score."""
    scores, names = scores_of(subject), [p.names for p in parts_of(subject.model)]
    cases: list[Case] = []
    pairs: dict[str, list[tuple[float, float]]] = {}
    for method in METHODS:
        rounded = Remembered(subject.model, names, 32, method)
        for budget in BUDGETS:
            cases.append(_case(subject, scores, rounded, budget, method, seed, draws))
        damage = torch.tensor(leave_one(rounded, lambda: loss_on(subject.model, subject.test)))
        if method == "hqq":
            pairs = {n: list(zip(_ranks(s), _ranks(damage), strict=True)) for n, s in scores.items()}
    return cases, pairs


def _case(
    subject: Subject,
    scores: dict[str, Tensor],
    rounded: Rounded,
    budget: float,
    method: str,
    seed: int,
    draws: int,
) -> Case:
    def plain() -> float:
        return loss_on(subject.model, subject.test)

    losses = {name: rounded.loss(allocate(score, budget), plain) for name, score in scores.items()}
    losses[GREEDY] = rounded.loss(greedy(rounded, plain, budget), plain)
    generator = torch.Generator().manual_seed(seed)
    count = len(rounded.layers)
    random = [allocate(torch.rand(count, generator=generator), budget) for _ in range(draws)]
    drawn = [rounded.loss(bits, plain) for bits in random]
    return Case(subject.name, budget, method, losses, drawn)


def _ranks(values: Tensor) -> list[float]:
    """Ranks from -1 to 1."""
    order = values.double().argsort(stable=True).argsort().double()
    return (2 * order / (len(values) - 1) - 1).tolist()


def correlation(pairs: Sequence[tuple[float, float]], seed: int) -> Estimate:
    """The correlation of ranks, pooled, with an interval over layers."""
    x, y = (estimates.column(list(one)) for one in zip(*pairs, strict=True))

    def statistic(w: Array) -> Array:
        total = w.sum(1)
        mx, my = w @ x / total, w @ y / total
        both = w @ (x * y) / total - mx * my
        found: Array = both / ((w @ (x * x) / total - mx**2) * (w @ (y * y) / total - my**2)) ** 0.5
        return found

    return estimates.estimate(statistic, len(x), seed)


def control(seed: int, count: int, layers: int, width: int) -> list[float]:
    """Rank correlations of NSDS scores between models that learnt nothing, all pairs."""
    found = []
    for i in range(count):
        model = decoder(256, width, layers, 1000 + seed + i)
        found.append(torch.tensor(_ranks(sensitivity(parts_of(model), unembedding(model), PLAIN).layers)))
    return [float(torch.corrcoef(torch.stack([a, b]))[0, 1]) for i, a in enumerate(found) for b in found[:i]]


def subject(name: str, quick: bool) -> Subject:
    """A little decoder, by its seed, or the starter trunk."""
    if name == TRUNK:
        return shipped(Family.open(STARTER).trunk_folder, 8 if quick else 16)
    layers, width, steps = (6, 32, 40) if quick else (12, 64, 300)
    model, rows = byte_model(layers, width, steps, int(name))
    return Subject(f"{layers} layers, seed {name}", model, rows[:32], rows[32:])


def trial(name: str, seed: int, quick: bool) -> list[Any]:
    """Measure one model, as plain values."""
    cases, pairs = measured(subject(name, quick), seed, 6 if quick else DRAWS)
    return [[asdict(case) for case in cases], pairs]


def shipped(folder: Path, rows: int) -> Subject:
    """The starter trunk on held-out examples of its skills."""
    from ...specialists.models import load_model_folder
    from ...specialists.tokenizing import ChatCodec

    model = load_model_folder(folder, torch.float32).requires_grad_(False)
    ids = ChatCodec.load(folder).encode_text(text("test", 900, 0))
    table = torch.tensor(ids[: len(ids) // 96 * 96]).view(-1, 96)
    return Subject(TRUNK, model, table[:rows], table[rows : rows + 8])


def section(lab: Lab) -> Section:
    """Measure everything and compare with the issue's targets."""
    cases: list[Case] = []
    pairs: dict[str, list[tuple[float, float]]] = {}
    seed, quick = lab.seeds[0], lab.quick
    for name in (*map(str, lab.seeds), TRUNK):
        some, ranks = lab.keep(f"nsds/{name}", partial(trial, name, seed, quick))
        cases += [Case(**case) for case in some]
        for score, found in ranks.items():
            pairs.setdefault(score, []).extend((x, y) for x, y in found)
    noise = control(seed, 4 if quick else 8, 12, 64)
    return Section(
        "NSDS: bits for layers, from weights alone",
        "Layers get 4 or 2 bits (groups of 32; embeddings and head stay as they are) under a mean of 3.0 and "
        f"2.5 bits, rounded to nearest and with half-quadratic scales, in {len(cases) // 4} models: little "
        "decoders of bytes, and the starter trunk. Excess: held-out loss above the best allocation, as a "
        f"share of that of the median of {6 if quick else DRAWS} random ones. Paper and code leave points "
        "open; rows of NSDS differ in their switches.",
        (
            "allocation",
            "excess over 4 bits, random median = 1",
            "beats the random median",
            "rank correlation with damage",
        ),
        tuple(_row(name, cases, pairs, seed) for name in cases[0].losses),
        _goals(cases, pairs, noise, seed),
        notes=(_note(cases),),
    )


def _excess(case: Case, name: str) -> float:
    """Loss above the best of all, in units of the random median's."""
    low = min([*case.losses.values(), *case.random])
    return (case.losses[name] - low) / max(_quantile(case.random, 0.5) - low, 1e-9)


def _quantile(values: Sequence[float], q: float) -> float:
    return float(torch.tensor(values, dtype=torch.float64).quantile(q))


def _row(
    name: str, cases: Sequence[Case], pairs: dict[str, list[tuple[float, float]]], seed: int
) -> tuple[str, ...]:
    wins = [case.losses[name] < _quantile(case.random, 0.5) for case in cases]
    share = estimates.mean([_excess(case, name) for case in cases], seed)
    ranked = cell(correlation(pairs[name], seed), "") if name in pairs else "–"
    return name, cell(share, ""), f"{sum(wins)} of {len(wins)}", ranked


def _goals(
    cases: Sequence[Case], pairs: dict[str, list[tuple[float, float]]], noise: Sequence[float], seed: int
) -> tuple[Goal, ...]:
    def share(beats: Callable[[Case], bool]) -> Estimate:
        return estimates.mean([float(beats(case)) for case in cases], seed)

    ours = [_excess(case, OURS) for case in cases]
    single = min((NUMBER, SHAPE), key=lambda n: sum(_excess(c, n) for c in cases))
    worst = max((NUMBER, SHAPE), key=lambda n: sum(_excess(c, n) for c in cases))
    unstable = abs(_quantile(noise, 0.5))
    return (
        Goal("cases in which NSDS beats the random median", "at least", 1.0, "%",
             share(lambda c: c.losses[OURS] < _quantile(c.random, 0.5))),
        Goal("cases in which NSDS beats the best quarter of random allocations", "at least", 0.5, "%",
             share(lambda c: c.losses[OURS] < _quantile(c.random, 0.25))),
        Goal("cases in which NSDS beats its inverse", "at least", 1.0, "%",
             share(lambda c: c.losses[OURS] < c.losses[INVERSE])),
        Goal("rank correlation of NSDS with the damage of one layer at 2 bits", "clearly above", 0.0, "",
             correlation(pairs[OURS], seed)),
        Goal(f"excess of both aspects over the worse single one ({worst})", "at most", 0.0, "",
             estimates.difference(ours, [_excess(c, worst) for c in cases], seed)),
        Goal(f"excess of both aspects over the better single one ({single})", "at most", 0.0, "",
             estimates.difference(ours, [_excess(c, single) for c in cases], seed)),
        Goal("untrained models: median rank correlation between seeds, without sign", "at most", 0.3, "",
             Estimate(unstable, unstable, unstable, len(noise))),
    )  # fmt: skip


def _note(cases: Sequence[Case]) -> str:
    by = {method: [c.losses[OURS] for c in cases if c.method == method] for method in METHODS}
    means = ", ".join(f"{m} {show(sum(v) / len(v), 'nats')}" for m, v in by.items())
    return f"Mean held-out loss under NSDS by way of rounding: {means}."
