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
    """Cut hand-written prompts of several asks, and single paraphrases that must stay whole."""
    many, single = written("multipart"), [e.prompt for e in paraphrases()]
    rows, plain = (many[:12], single[:12]) if stage.sizes.route < 50 else (many, single)
    wanted: list[list[str]] = [list(row["specialists"]) for row in rows]
    proposed = [len(split(row["prompt"])) for row in rows]
    with Pilot(stage.family, Unlogged()) as pilot:
        found = [routed_parts(pilot, row["prompt"]) for row in rows]
        whole = [len(routed_parts(pilot, prompt)) == 1 for prompt in plain]
    counts = [len(f) == len(w) for f, w in zip(found, wanted, strict=True)]
    rules = [p == len(w) for p, w in zip(proposed, wanted, strict=True)]
    return Section(
        "Prompts of several asks",
        "Hand-written prompts of two or more asks. Rules propose a cut; it stands when the policy would "
        "answer every part. `as written` wants the right specialists in the right order.",
        ("measure", "n", "value"),
        (
            _row(stage, "cut into the right number of parts", counts),
            _row(
                stage,
                "parts and specialists as written",
                [f == w for f, w in zip(found, wanted, strict=True)],
            ),
            _row(stage, "right number proposed by the rules alone", rules),
            _row(stage, "single paraphrases left whole", whole),
        ),
    )


def _row(stage: Stage, name: str, hits: Sequence[bool]) -> tuple[str, ...]:
    return name, str(len(hits)), cell(estimates.mean(hits, stage.seed), "%")
