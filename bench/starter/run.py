"""Run the whole benchmark and write its page."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ...specialists import integrity
from ...specialists.card import Card
from ...specialists.family import Family
from ...specialists.starter.skills.example import Example
from .. import circumstances
from ..page import Report, Section
from . import explaining, latency, matrix, parts, pictures, routing, scope, skills, steering
from .prompts import mixture, out_of_scope, paraphrases
from .stage import Stage

PAGE = "starter.md"
ABOUT = """Written by `pilothouse bench starter`; do not edit. Intervals are 95 % percentile bootstrap
intervals over prompts (2,000 resamples); differences between methods are paired on the same prompts, and bold
where the interval leaves out 0. An interval without width means that all rows agree, not that there is no
doubt: with no error in n rows, the true rate may still be up to 3/n."""
TRIAL = " **A quick trial on few rows: not a result.**"


def _quiet(line: str) -> None:
    """Tell nothing."""


def run(
    family: Family,
    data: Path | None,
    out: Path,
    seed: int = 0,
    quick: bool = False,
    say: Callable[[str], None] = _quiet,
    *,
    cards: bool = False,
) -> Report:
    """Measure `family`, write `starter.md` and pictures into `out`, and return the report.

    `cards` writes each skill's accuracies on its specialist's card as well, and seals the family again.

    Raises:
        ArtifactError: the family is damaged, or has no probes.
    """
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    stage = Stage.open(family, data, seed, quick, say)
    try:
        sections = measured(stage, out)
    finally:
        stage.close()
    # these load the family again through the controller, as a user does, and set torch's threads
    sections += [parts.section(stage), latency.section(stage)]
    command = f"pilothouse bench starter --family {family.name} --seed {seed}{' --quick' if quick else ''}"
    facts = (
        *circumstances.facts(command, seed),
        ("family", f"{family.name}, trunk {family.trunk_fingerprint[:12]}"),
        ("data folder", "given" if data is not None else "none: what needs one is left out"),
        ("took", f"{(time.monotonic() - begun) / 60:.1f} minutes"),
    )
    if cards:
        write_figures(family.folder, stage.figures)
    report = Report("The starter family, measured", ABOUT + (TRIAL if quick else ""), facts, tuple(sections))
    (out / PAGE).write_text(report.markdown(), encoding="utf-8")
    return report


def write_figures(folder: Path, figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """Put what was measured on the cards of the family in `folder`, and seal it again."""
    for name, groups in figures.items():
        place = folder / "specialists" / name
        card = Card.load(place)
        Card.model_validate(card.model_dump() | {"metrics": groups}).save(place)
    integrity.seal(folder)


def measured(stage: Stage, out: Path) -> list[Section]:
    """Everything that runs on the stage itself."""
    named = stage.probes.specialists
    examples, missing = mixture(named, "test", stage.sizes.route, stage.seed, stage.data)
    first = skills.section(stage)
    asked = _few(stage, [e for e in paraphrases() if e.skill in named])
    # both at once: prompts of one length share a batch
    both = matrix.fill(stage, [*examples, *asked])
    test, free = both.part(0, len(examples)), both.part(len(examples), len(both.examples))
    answers, scores = routing.answering(stage, test, "Routed answers")
    found = scope.gather(stage, test, out_of_scope(stage.sizes.outside, stage.seed, stage.data))
    pictures.router_picture(scores, out / "starter-routers.png", stage.seed)
    pictures.reliability_picture(found, out / "starter-reliability.png")
    pictures.risk_picture(found, out / "starter-risk-coverage.png", stage.policy.risk)
    steered = steering.section(stage, test)
    return [
        first,
        routing.choosing(stage, test, free, missing),
        _with_picture(answers, "starter-routers.png", "answers right by router"),
        routing.paraphrased(stage, free),
        scope.calibration(stage, found, [("starter-reliability.png", "reliability diagram")]),
        scope.abstention(stage, found, [("starter-risk-coverage.png", "risk-coverage curve")]),
        explaining.section(stage, _spread(stage, test)),
        _with_note(steered, steering.refused_in_scope(stage, test)),
    ]


def _spread(stage: Stage, test: matrix.Matrix) -> Tensor:
    """Pooled vectors from the whole mixture, not of its first skill only."""
    count = stage.sizes.explained
    return test.x[:: max(1, len(test.x) // count)][:count]


def _few(stage: Stage, rows: list[Example]) -> list[Example]:
    """A quick trial takes every fifth hand-written row."""
    return rows[::5] if stage.sizes.route < 50 else rows


def _with_picture(section: Section, name: str, words: str) -> Section:
    return Section(**{**vars(section), "pictures": ((name, words),)})


def _with_note(section: Section, note: str) -> Section:
    return Section(**{**vars(section), "notes": (*section.notes, note)})
