"""A few hundred labels, the rest to be judged on, several draws; every router on the same rows and
resamples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...router.routing import curves as worth
from ...router.routing.fitting import Fitted, Options, calibration_errors, fit
from ...router.routing.recipes import RECIPES
from ...router.routing.seen import Seen
from ...router.routing.table import Table
from ..estimates import Array, Estimate

RESAMPLES = 400
CONFIDENCE = "starter trunk's confidence, no labels"
LEAKY = "group prior with every label (knows the test)"
LENGTH, TFIDF, PRIOR = "prompt length", "TF-IDF + ridge on the gain", "group prior (told the group)"


@dataclass(frozen=True, eq=False)
class Draw:
    """One split: indexes to learn from and to judge on."""

    train: Tensor
    test: Tensor
    options: Options


@dataclass(eq=False)
class Board:
    """Scores of every router on every draw. weights [R,N]: one set of resamples of all rows, for all
    draws.
    """

    table: Table
    weights: Array
    scores: dict[str, list[tuple[Array, Array]]] = field(default_factory=dict)  # (rows, score)
    errors: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    kept: dict[tuple[str, int | None], Array] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Table, seed: int) -> Board:
        """An empty board."""
        return cls(table, worth.draws(len(table), RESAMPLES, seed))

    def add(self, name: str, rows: Tensor, score: Tensor | Array) -> None:
        """Note the predicted gain of rows."""
        self.kept.clear()
        self.scores.setdefault(name, []).append((rows.numpy(), np.asarray(score, dtype=np.float64)))

    def _each(
        self, name: str, how: Callable[[Array, Array, Array, Array], Array], most: int | None = None
    ) -> Array:
        """Mean over the draws (the first `most`) of a figure by resample."""
        weak, strong = self.table.quality.double().numpy().T
        found = [how(score, weak[rows], strong[rows], rows) for rows, score in self.scores[name][:most]]
        mean: Array = np.mean(found, axis=0)
        return mean

    def samples(self, name: str, most: int | None = None) -> Array:
        """APGR by resample, the mean over draws [R]."""
        if (name, most) not in self.kept:
            self.kept[name, most] = self._each(
                name, lambda s, w, b, rows: worth.apgr_resampled(s, w, b, self.weights[:, rows]), most
            )
        return self.kept[name, most]

    def value(self, name: str, most: int | None = None) -> worth.Pair:
        """APGR and CPT by the field's recipe, means over draws."""
        figures = self._each(
            name, lambda s, w, b, rows: np.array([*vars(worth.pair(s, w, b)).values()]), most
        )
        return worth.Pair(*figures.tolist())

    def spread(self, name: str) -> float:
        """Standard deviation of APGR over draws."""
        weak, strong = self.table.quality.double().numpy().T
        each = [worth.pair(s, weak[rows], strong[rows]).apgr for rows, s in self.scores[name]]
        return float(np.std(each))

    def estimate(self, name: str) -> Estimate:
        """APGR with its interval over prompts."""
        low, high = worth.interval(self.samples(name))
        return Estimate(self.value(name).apgr, low, high, len(self.scores[name][0][0]))

    def difference(self, one: str, other: str) -> Estimate:
        """APGR of one - other, paired, on the draws that both were fitted on."""
        most = min(len(self.scores[one]), len(self.scores[other]))
        low, high = worth.interval(self.samples(one, most) - self.samples(other, most))
        value = self.value(one, most).apgr - self.value(other, most).apgr
        return Estimate(value, low, high, len(self.scores[one][0][0]))


def random_draws(table: Table, labels: int, seeds: int) -> list[Draw]:
    """`labels` rows to learn from, the rest to judge on."""
    found = []
    for seed in range(seeds):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(table)))
        found.append(Draw(order[:labels], order[labels:], Options(seed=seed)))
    return found


def group_draws(table: Table, left_out: int, seeds: int, most: int) -> list[Draw]:
    """Whole groups to judge on, and up to `most` rows of the others to learn from."""
    names = sorted(set(table.groups))
    found = []
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        away = set(np.array(names)[generator.permutation(len(names))[:left_out]].tolist())
        place = np.array([group in away for group in table.groups])
        train = generator.permutation(np.flatnonzero(~place))[:most]
        test = torch.from_numpy(np.flatnonzero(place))
        found.append(Draw(torch.from_numpy(train), test, Options(seed=seed, by_group=True)))
    return found


def run_baselines(board: Board, draws: Sequence[Draw]) -> None:
    """Length, TF-IDF, the group prior, chance, and the oracle."""
    table = board.table
    gain = table.quality[:, 1] - table.quality[:, 0]
    for number, draw in enumerate(draws):
        board.add(LENGTH, draw.test, np.array([len(table.texts[i]) for i in draw.test.tolist()]))
        board.add(TFIDF, draw.test, tfidf(table, gain, draw))
        board.add("random", draw.test, np.random.default_rng(number).random(len(draw.test)))
        board.add("oracle (knows both outcomes)", draw.test, gain[draw.test])
        if table.groups:
            seen = Seen(table.texts, groups=table.groups)
            head = RECIPES["prior"](seen.take(draw.train), table.quality[draw.train])
            board.add(PRIOR, draw.test, _gain(head.predict(seen.take(draw.test))))


def run_references(board: Board, draws: Sequence[Draw], signals: Tensor | None) -> None:
    """What needs no fit: a small model's own confidence (signals [N,S], its likeliest next token's
    log-probability first; unsure goes up), and the group's gain from every label, the test's too.
    """
    table = board.table
    gain = table.quality[:, 1] - table.quality[:, 0]
    for draw in draws:
        if signals is not None:
            board.add(CONFIDENCE, draw.test, -signals[draw.test, 0])
        if table.groups:
            means = {g: float(gain[[x == g for x in table.groups]].mean()) for g in set(table.groups)}
            board.add(LEAKY, draw.test, np.array([means[table.groups[i]] for i in draw.test.tolist()]))


def tfidf(table: Table, gain: Tensor, draw: Draw) -> Array:
    """Words and pairs of words, ridge on the gain, by scikit-learn with its usual penalty."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    rows = words.fit_transform([table.texts[i] for i in draw.train.tolist()])
    model = Ridge(alpha=1.0).fit(rows, gain[draw.train].numpy())
    found: Array = model.predict(words.transform([table.texts[i] for i in draw.test.tolist()]))
    return found


def run_stack(
    board: Board,
    draws: Sequence[Draw],
    seen: Seen,
    name: str,
    say: Callable[[str], None],
    heads: bool = False,
) -> list[Fitted]:
    """Fit the stack on each draw and score it (and with `heads` each head) on the rest."""
    found = []
    for number, draw in enumerate(draws):
        begun = time.perf_counter()
        fitted = fit(board.table.take(draw.train), seen.take(draw.train), draw.options)
        asked = seen.take(draw.test)
        quality = fitted.quality(asked)
        board.add(name, draw.test, quality[:, 1] - quality[:, 0])
        truth = board.table.quality[draw.test]
        board.errors.setdefault(name, []).append(max(calibration_errors(fitted.curves(quality), truth)))
        board.seconds.setdefault(name, []).append(time.perf_counter() - begun)
        if heads:
            for one, head in fitted.heads.items():
                board.add(f"{name}: {one} alone", draw.test, _gain(head.predict(asked)))
        say(f"{name}, draw {number}: {board.seconds[name][-1]:.0f} s, {fitted.objective}")
        found.append(fitted)
    return found


def run_shuffled(board: Board, draws: Sequence[Draw], seen: Seen) -> None:
    """The control: a linear probe on labels dealt to other rows."""
    for draw in draws:
        order = torch.randperm(len(draw.train), generator=torch.Generator().manual_seed(draw.options.seed))
        head = RECIPES["linear"](seen.take(draw.train), board.table.quality[draw.train][order])
        board.add("linear probe, labels shuffled", draw.test, _gain(head.predict(seen.take(draw.test))))


def _gain(parts: Tensor) -> Tensor:
    return parts[:, 2] - parts[:, 1]


def transferred(fitted: Fitted, seen: Seen) -> Tensor:
    """Predicted gain on another set's prompts."""
    quality = fitted.quality(seen)
    return quality[:, 1] - quality[:, 0]


def rows_of(board: Board) -> list[tuple[str, ...]]:
    """A table row a router, best first."""
    from ..page import cell

    order = sorted(board.scores, key=lambda name: -board.value(name).apgr)
    found: list[tuple[str, ...]] = []
    for name in order:
        pair = board.value(name)
        cpt = " / ".join(f"{100 * c:.1f}" for c in (pair.cpt20, pair.cpt50, pair.cpt80))
        worst = f"{np.mean(board.errors[name]):.3f}" if name in board.errors else "–"
        count = len(board.scores[name])
        spread = f"{board.spread(name):.3f} / {count}"
        found.append((name, cell(board.estimate(name), ""), spread, cpt, worst))
    return found


HEADER = ("router", "APGR [95 % over prompts]", "sd over / draws", "CPT20 / 50 / 80, % strong", "worst ECE")
