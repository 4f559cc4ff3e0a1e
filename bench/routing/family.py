"""The shipped family: a router fitted on its specialists' own answers, against the best choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...agents.routers import open_reader, turns_of
from ...router.routing.fitting import Fitted, Options, calibration_errors, fit
from ...router.routing.scouts import read_table_with
from ...router.routing.table import Table
from ...specialists.family import Family
from ...specialists.starter.skills.example import Example, Split
from ...store.records import Message
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell
from ..starter.matrix import Matrix, fill
from ..starter.prompts import mixture
from ..starter.stage import Stage

FAMILY = "starter"
LEARNT: dict[Split, int] = {"fit": 200, "calibrate": 300}  # prompts of each skill, by split
JUDGED = 300
Say = Callable[[str], None]


def table_of(matrix: Matrix) -> Table:
    """Everybody's answer to every prompt of a matrix, as a labelled table whose groups are the skills."""
    quality = torch.tensor(np.stack([matrix.right[name] for name in matrix.names], 1), dtype=torch.float32)
    nothing = torch.full_like(quality, torch.nan)
    turns = tuple((*_before(e), *turns_of(e.prompt)) for e in matrix.examples)
    skills = tuple(e.skill for e in matrix.examples)
    return Table(turns, tuple(matrix.names), quality, nothing, nothing, skills)


def _before(example: Example) -> Iterator[Message]:
    for asked, answered in example.history:
        yield Message(role="user", content=asked)
        yield Message(role="assistant", content=answered)


def section(data: Path, seed: int, quick: bool, say: Say) -> Section:
    """Share of the oracle and calibration on the test split of the family's skills."""
    stage = Stage.open(Family.open(FAMILY), data if data.is_dir() else None, seed, quick, say)
    try:
        skills = stage.probes.specialists
        # two splits, as the family's own probes: specialists know the templates of the first
        lessons = [
            row
            for split, each in LEARNT.items()
            for row in mixture(skills, split, 8 if quick else each, seed, stage.data)[0]
        ]
        asked, _ = mixture(skills, "test", 8 if quick else JUDGED, seed, stage.data)
        both = fill(stage, [*lessons, *asked])
    finally:
        stage.close()
    learnt = table_of(both.part(0, len(lessons)))
    test = both.part(len(lessons), len(both.examples))
    judged = table_of(test)
    reader = open_reader(FAMILY)
    options = Options(seed=seed, apart=tuple(f"{e.skill}/{e.template}" for e in lessons))
    fitted = fit(learnt, read_table_with(reader, learnt), options, say)
    p = fitted.p_correct(read_table_with(reader, judged))
    return _section(fitted, learnt, judged, p, _probes(test), seed)


def _probes(test: Matrix) -> np.ndarray:
    """Whether the shipped probes' choice was right, nobody abstaining."""
    return test.scored([one.best.specialist for one in test.routed])


def _section(
    fitted: Fitted, learnt: Table, judged: Table, p: Tensor, shipped: np.ndarray, seed: int
) -> Section:
    truth = judged.quality
    oracle = truth.max(1).values.numpy()
    single = int(learnt.quality.mean(0).argmax())
    by_router = {
        "the stack": truth.gather(1, p.argmax(1, keepdim=True))[:, 0].numpy(),
        "the shipped probes, nobody abstaining": shipped,
        f"best single, {judged.models[single]}": truth[:, single].numpy(),
        "random": truth.mean(1).numpy(),
    }
    share = {name: estimates.ratio(found, oracle, seed) for name, found in by_router.items()}
    errors = calibration_errors(p, truth)
    pooled = estimates.ece(p.flatten().numpy(), truth.flatten().numpy(), seed)
    worst = Estimate(max(errors), max(errors), max(errors), len(judged))
    goals = (
        Goal("starter family: share of the oracle's answers", "at least", 0.97, "%", share["the stack"]),
        Goal("starter family: worst specialist's ECE of P(correct)", "at most", 0.03, "", worst),
    )
    rows = [
        (name, cell(estimates.mean(found, seed), "%"), cell(share[name], "%"))
        for name, found in by_router.items()
    ]
    rows.append(("oracle (anybody right)", cell(estimates.mean(oracle, seed), "%"), "100 %"))
    text = (
        f"Every specialist of the shipped family answered {len(learnt)} prompts to learn from (the splits "
        f"that its probes are made on, without free phrasings, which are not judged here either) and "
        f"{len(judged)} of the test split, whose templates are in neither: folds inside the fit hold out "
        "whole templates. Labels are whether the answers were right; at run time nothing is told which skill "
        "a prompt belongs to."
    )
    left = tuple(f"left out {name}: {why}" for name, why in fitted.left_out.items())
    notes = (f"ECE pooled over specialists: {cell(pooled, '')}.", *left)
    return Section(
        "The starter family", text, ("router", "right", "share of oracle"), tuple(rows), goals, notes=notes
    )
