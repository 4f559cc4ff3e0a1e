"""Recipe step that makes the student: several teachers, each of whom knows one danger, teach a small model.

Each prompt is answered by the teacher that the student learns most from (PerSyn). Then the part of the
student that the search of CoFiTune names is tuned on the dangers it is worst at, and the result is quantized
as NSDS says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import corpus, factory, makers
from .language import FULL
from .skills.example import Example, Split
from .work import Work

DANGERS = ("spam", "injection", "harmful")
LICENCE = "see the card of screening"
LESSONS, JUDGED = 8_000, 320
LAYERS = (0, 1, 2, 3)
HARD, EASY = ("injection", "harmful"), ("spam", "safe")
TEACHER = {"step": "finetune", "from": "trunk", "method": "alora", "rank": 16, "steps": 120, "rows": 64}
RATE = 1.5e-3
PERSYN = {
    "step": "distill",
    "name": "taught",
    "from": ["trunk", *DANGERS],
    "data": "lessons",
    "test_data": "held",
    "layers": LAYERS,
    "route": "persyn",
    "labelled": 400,
    "router_steps": 100,
    "router_rate": 3e-4,
    "steps": 250,
    "rows": 64,
    "rate": 1e-3,
    "longest": 6,
}
SELECTIVE = {
    "step": "finetune",
    "name": "tuned",
    "from": "taught",
    "method": "cofitune",
    "data": "hard",
    "test_data": "held-hard",
    "versatility_data": ["held-easy"],
    "steps": 100,
    "search_steps": 25,
    "rows": 64,
    "rate": 3e-4,
    "longest": 6,
}
QUANTIZE = {
    "step": "quantize",
    "name": "small",
    "from": "tuned",
    "data": "lessons",
    "allocation": "nsds",
    "budget": 3.5,
    "high": 4,
    "low": 3,
    "embeddings": 8,  # in 4 bits the embedding cost a third of the injections that are seen
    "solver": "gptq",
    "group": 64,
    "rows": 256,
    "length": 192,
}
SETTINGS = (LESSONS, JUDGED, TEACHER, RATE, PERSYN, SELECTIVE, QUANTIZE)


def lessons(work: Work, split: Split, count: int) -> list[Example]:
    """Screening rows of a split that have an answer."""
    drawn = corpus.draw(makers.STUDENT, split, count, work.seed + 5, work.sources)
    return [row for row in drawn if row.answer]


def of_kinds(rows: Sequence[Example], kinds: Sequence[str]) -> list[Example]:
    """The rows of some kinds."""
    return [row for row in rows if row.kind in kinds]


def recipe_steps() -> list[dict[str, Any]]:
    """Three teachers, the student, its selective tuning, its quantization."""
    teachers = [{**TEACHER, "name": danger, "data": f"{danger}-lessons", "rate": RATE} for danger in DANGERS]
    return [*teachers, PERSYN, SELECTIVE, QUANTIZE]


def make_student(work: Work) -> None:
    """Run the student's own recipe on the trained trunk, and take its result as `student/`."""
    known, held = lessons(work, "train", LESSONS), lessons(work, "calibrate", JUDGED)
    data = {f"{danger}-lessons": of_kinds(known, (danger, "safe")) for danger in DANGERS}
    data |= {"lessons": known, "held": held, "hard": hard(known)}
    data |= {"held-hard": of_kinds(held, HARD), "held-easy": of_kinds(held, EASY)}
    made = factory.run_recipe(work, "student", work.path(FULL), data, recipe_steps(), LICENCE)
    factory.take(made, work.path("student"))


def hard(rows: Sequence[Example]) -> list[Example]:
    """The dangers that are hardest to see, and as many other rows, so that the student does not cry wolf."""
    chosen = of_kinds(rows, HARD)
    return [*chosen, *of_kinds(rows, EASY)[: len(chosen)]]
