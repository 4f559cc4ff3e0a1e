"""Table 9: prompts that hold several asks are cut into them, and each goes to its specialist."""

from __future__ import annotations

from collections.abc import Sequence

from ...agents.asks import split
from ...agents.pilot import Pilot
from ...agents.voyage import Unlogged
from .. import estimates
from ..page import Section, cell
from .prompts import paraphrases, written
from .stage import Stage


def routed_parts(pilot: Pilot, prompt: str) -> list[str]:
    """The specialist of the highest utility for each part that the controller makes of a prompt."""
    answer = pilot.ask(prompt, max_tokens=1)
    found: dict[int, str] = {}
    for candidate in answer.candidates:
        found.setdefault(int(candidate["part"]), str(candidate["specialist"]))
    return [found[index] for index in sorted(found)]


def section(stage: Stage) -> Section:
    """Cut hand-written prompts of several asks; what only looks so, and paraphrases, must stay whole."""
    rows, plain = written("multipart"), [e.prompt for e in paraphrases()]
    if stage.sizes.route < 50:
        rows, plain = rows[::6], plain[::30]
    wanted: list[list[str]] = [list(row["specialists"]) for row in rows]
    with Pilot(stage.family, Unlogged()) as pilot:
        found = [routed_parts(pilot, row["prompt"]) for row in rows]
        whole = [len(routed_parts(pilot, prompt)) == 1 for prompt in plain]
    proposed = [len(split(row["prompt"])) for row in rows]
    several = [i for i, names in enumerate(wanted) if len(names) > 1]
    single = [i for i, names in enumerate(wanted) if len(names) == 1]
    return Section(
        "Prompts of several asks",
        "Hand-written prompts of two or more asks, and ones that only look like it. Rules propose a cut; it "
        "stands when the policy would answer every part. `as written`: the right specialists in the right "
        "order.",
        ("measure", "n", "value"),
        (
            _row(
                stage,
                "several asks: right number of parts",
                [len(found[i]) == len(wanted[i]) for i in several],
            ),
            _row(
                stage,
                "several asks: parts and specialists as written",
                [found[i] == wanted[i] for i in several],
            ),
            _row(
                stage,
                "several asks: right number proposed by the rules alone",
                [proposed[i] == len(wanted[i]) for i in several],
            ),
            _row(stage, "one ask that looks like several: left whole", [len(found[i]) == 1 for i in single]),
            _row(stage, "free paraphrases: left whole", whole),
        ),
    )


def _row(stage: Stage, name: str, hits: Sequence[bool]) -> tuple[str, ...]:
    return name, str(len(hits)), cell(estimates.mean(hits, stage.seed), "%")
