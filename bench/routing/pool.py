"""Twelve models whose abilities are known: how near does a router fitted on their verdicts come to the best
choice?
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...router.routing.fitting import Fitted, Options, calibration_errors, fit
from ...router.routing.seen import Seen
from ...router.routing.table import Table
from ...router.threshold import calibrate_threshold
from ...store.errors import UsageError
from ...store.records import Message
from .. import estimates
from ..page import Goal, Section, cell

MODELS, FIELDS, WIDTH = 12, 6, 64
HEADS = ("surface", "linear", "low-rank", "kernel", "neighbours", "guess", "ability", "trees")
RISK, DELTA = 0.1, 0.1


class Pool(NamedTuple):
    """A table with known P(correct) [N,M]."""

    table: Table
    seen: Seen
    p: Tensor


def pool(rows: int, seed: int, models: int = MODELS, width: int = WIDTH) -> Pool:
    """Prompts of six fields and a difficulty, seen through a random linear map with noise.

    A model is right with sigmoid(ability in the field - steepness x difficulty). Every third row lacks one
    label in two.
    """
    world, make_rows = np.random.default_rng(7), np.random.default_rng(seed)
    ability = world.normal(0, 2.0, (FIELDS, models))
    steep = world.uniform(0.5, 2.0, models)
    view = world.normal(0, 1, (FIELDS + 1, width))
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


def section(seed: int, quick: bool) -> Section:
    """Share of the oracle, calibration, and the stated risk over 500 draws."""
    train, test = pool(600 if quick else 3000, seed), pool(600 if quick else 4000, seed + 1)
    fitted = fit(train.table, train.seen, Options(heads=HEADS, seed=seed))
    p = fitted.p_correct(test.seen)
    found = test.p.gather(1, p.argmax(1, keepdim=True))[:, 0].numpy()
    best = test.p.max(1).values.numpy()
    ratio = estimates.ratio(found, best, seed)
    errors = calibration_errors(p, test.table.quality)
    worst = estimates.Estimate(max(errors), max(errors), max(errors), len(test.table))
    held = risk_held(fitted, train, test, 50 if quick else 500, seed)
    broken = estimates.mean(1.0 - held, seed)
    single = float(test.p.mean(0).max())
    goals = (
        Goal("12 planted models: share of the oracle's quality", "at least", 0.97, "%", ratio),
        Goal("12 planted models: worst model's ECE of P(correct)", "at most", 0.03, "", worst),
        Goal(
            f"stated risk {RISK:g} broken, share of draws (allowed: {DELTA:g})", "at most", DELTA, "%", broken
        ),
    )
    rows = (
        ("the stack", f"{found.mean():.4f}", cell(ratio, "%")),
        ("best single model", f"{single:.4f}", f"{100 * single / best.mean():.1f} %"),
        ("random", f"{float(test.p.mean()):.4f}", f"{100 * float(test.p.mean()) / best.mean():.1f} %"),
        ("oracle (knows each model's chance)", f"{best.mean():.4f}", "100 %"),
    )
    text = (
        f"{len(train.table)} prompts to learn from, {len(test.table)} to judge on, {MODELS} models; a sixth "
        f"of the "
        "labels is missing. The oracle knows every model's true chance. The risk is calibrated anew on "
        "1,000 rows of each draw and checked on 1,000 others."
    )
    return Section(
        "A pool with planted abilities", text, ("router", "quality", "share of oracle"), rows, goals
    )


def risk_held(fitted: Fitted, train: Pool, test: Pool, draws: int, seed: int) -> np.ndarray:
    """Whether the share of wrong answers among those given kept the stated risk, for each draw [draws]."""
    p = fitted.p_correct(test.seen)
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
