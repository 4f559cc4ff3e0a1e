"""Twelve models whose abilities are known: how near does a router fitted on their verdicts come to the best
choice?
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...router.routing.fitting import Options, calibration_errors, fit
from ...router.routing.seen import Seen
from ...router.routing.table import Table
from ...router.threshold import calibrate_threshold
from ...store.errors import UsageError
from ...store.records import Message
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell

MODELS, FIELDS, WIDTH = 12, 6, 64
HEADS = ("surface", "linear", "low-rank", "kernel", "neighbours", "guess", "ability", "trees")
RISK, DELTA = 0.1, 0.1
SEEDS = 3


class Pool(NamedTuple):
    """A table with known P(correct) [N,M]."""

    table: Table
    seen: Seen
    p: Tensor


def pool(rows: int, seed: int, models: int = MODELS, width: int = WIDTH, world: int = 7) -> Pool:
    """Prompts of six fields and a difficulty, seen through a random linear map with noise.

    A model is right with sigmoid(ability in the field - steepness x difficulty). Every third row lacks one
    label in two.
    """
    make_world, make_rows = np.random.default_rng(world), np.random.default_rng(seed)
    ability = make_world.normal(0, 2.0, (FIELDS, models))
    steep = make_world.uniform(0.5, 2.0, models)
    view = make_world.normal(0, 1, (FIELDS + 1, width))
    group = make_rows.integers(0, FIELDS, rows)
    hard = make_rows.normal(0, 1, rows)
    p = 1 / (1 + np.exp(-(ability[group] - steep * hard[:, None])))
    latent = np.concatenate([3 * np.eye(FIELDS)[group], hard[:, None]], 1)
    states = latent @ view + 0.5 * make_rows.normal(0, 1, (rows, width))
    quality = (make_rows.random(p.shape) < p).astype(np.float32)
    quality[::3][make_rows.random(quality[::3].shape) < 0.5] = np.nan
    texts = [f"prompt {seed}-{i}" for i in range(rows)]
    turns = tuple((Message(role="user", content=text),) for text in texts)
    nothing = torch.full(p.shape, torch.nan)
    groups = tuple(f"field {i}" for i in group)
    names = tuple(f"model-{i:02d}" for i in range(models))
    table = Table(turns, names, torch.from_numpy(quality), nothing, nothing, groups)
    seen = Seen(tuple(texts), torch.from_numpy(states.astype(np.float32)), groups=groups)
    return Pool(table, seen, torch.from_numpy(p.astype(np.float32)))


class Trial(NamedTuple):
    """One world fitted and judged: true chance of the chosen and of the best [N], each model's ECE, and
    whether the risk was kept in each draw.
    """

    found: np.ndarray
    best: np.ndarray
    errors: list[float]
    held: np.ndarray
    single: float
    random: float


def trial(seed: int, quick: bool, draws: int) -> Trial:
    """Fit on one draw of a world, judge on another."""
    # worlds that nothing was chosen on
    train = pool(600 if quick else 3000, 1000 + seed, world=100 + seed)
    test = pool(600 if quick else 20_000, 2000 + seed, world=100 + seed)
    fitted = fit(train.table, train.seen, Options(heads=HEADS, seed=seed))
    p = fitted.p_correct(test.seen)
    return Trial(
        test.p.gather(1, p.argmax(1, keepdim=True))[:, 0].numpy(),
        test.p.max(1).values.numpy(),
        calibration_errors(p, test.table.quality),
        risk_held(p, test, draws, seed),
        float(test.p.mean(0).max()),
        float(test.p.mean()),
    )


def section(seed: int, quick: bool, say: Callable[[str], None]) -> Section:
    """Share of the oracle, calibration, and the stated risk over 500 draws."""
    seeds = 1 if quick else SEEDS
    trials = []
    for number in range(seeds):
        trials.append(trial(seed + number, quick, -(-(50 if quick else 500) // seeds)))
        say(f"planted pool, draw {number}: worst ECE {max(trials[-1].errors):.3f}")
    found, best, held = (np.concatenate([getattr(t, n) for t in trials]) for n in ("found", "best", "held"))
    ratio = estimates.ratio(found, best, seed)
    worst = [max(one.errors) for one in trials]
    error = Estimate(float(np.mean(worst)), min(worst), max(worst), len(found))
    broken = estimates.mean(1.0 - held, seed)
    single, chance = (float(np.mean([getattr(one, n) for one in trials])) for n in ("single", "random"))
    goals = (
        Goal("12 planted models: share of the oracle's quality", "at least", 0.97, "%", ratio),
        Goal("12 planted models: worst model's ECE of P(correct)", "at most", 0.03, "", error),
        Goal(
            f"stated risk {RISK:g} broken, share of draws (allowed: {DELTA:g})", "at most", DELTA, "%", broken
        ),
    )
    rows = (
        ("the stack", f"{found.mean():.4f}", cell(ratio, "%")),
        ("best single model", f"{single:.4f}", f"{100 * single / best.mean():.1f} %"),
        ("random", f"{chance:.4f}", f"{100 * chance / best.mean():.1f} %"),
        ("oracle (knows each model's chance)", f"{best.mean():.4f}", "100 %"),
    )
    each = "600" if quick else "3,000"
    text = (
        f"{seeds} draws of {each} prompts to learn from and {len(found) // seeds} to judge on, {MODELS} "
        "models; a sixth of the labels is missing. The oracle knows every model's true chance. So many are "
        "judged because the ECE of the true chances themselves, with 4,000 labels a model, is up to .028 by "
        "chance; its bracket is the lowest and the highest draw. The risk is calibrated anew on 1,000 rows "
        "of each of its draws and checked on 1,000 others."
    )
    return Section(
        "A pool with planted abilities", text, ("router", "quality", "share of oracle"), rows, goals
    )


def risk_held(p: Tensor, test: Pool, draws: int, seed: int) -> np.ndarray:
    """Whether the share of wrong answers among those given kept the stated risk, for each draw [draws]."""
    who = p.argmax(1, keepdim=True)
    best, chance = p.gather(1, who)[:, 0].numpy(), test.p.gather(1, who)[:, 0].numpy()
    generator = np.random.default_rng(seed)
    half = min(1000, len(best) // 2)
    kept = []
    for _ in range(draws):
        order = generator.permutation(len(best))
        calibrating, judging = order[:half], order[half : 2 * half]
        right = (generator.random(half) < chance[calibrating]).astype(float)
        try:
            threshold = calibrate_threshold(best[calibrating].tolist(), right.tolist(), RISK, delta=DELTA)
        except UsageError:  # nobody answers: no risk is taken
            kept.append(1.0)
            continue
        given = best[judging] >= threshold
        kept.append(float(not given.any() or 1 - chance[judging][given].mean() <= RISK))
    return np.array(kept)
