"""The starter family's recipe: every step in order, each skipped once it is done."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from . import deciding, features, language, makers, pack, probing, quantizing, steering, student, verifying
from .work import Step, Work, run_steps

LAYERS = ((6,), (1, 4, 6), (2, 4, 6))  # choices of what the probes read


def collect(work: Work) -> None:
    """Let every specialist answer the fitting and the calibration mixture."""
    for split, each in probing.EACH.items():
        makers.collect_outcomes(work, split, each, probing.OTHERS[split])


def collect_styled(work: Work) -> None:
    """Let the steered storyteller answer requests for a style."""
    for split in probing.EACH:
        steering.collect_styled(work, split)


def steps(target: Path, start: Path | None = None) -> list[Step]:
    """Return the recipe; the family is packed into ``target``. ``start``: a trunk folder to go on from."""
    courses = [
        Step(
            f"adapter-{name}",
            partial(makers.train_specialist, name=name),
            asdict(course),
            (f"adapters.run/{name}", f"adapters.bf16/{name}"),
        )
        for name, course in makers.COURSES.items()
        if name != makers.STUDENT
    ]
    rides = [
        Step(
            f"ride-{name}",
            partial(makers.ride_specialist, name=name),
            (asdict(course), quantizing.ADAPTER),
            (f"rides.run/{name}", f"rides/{name}", f"adapters/{name}"),
        )
        for name, course in makers.RIDES.items()
    ]
    return [
        Step("stories", language.sample_stories, language.STORIES),
        Step("tokenizer", language.make_tokenizer, language.VOCABULARY),
        Step("streams", language.make_streams, (language.STREAM_TOKENS, tuple(language.PASSES))),
        Step(
            "trunk",
            partial(language.train_trunk, start=start),
            (language.TRUNK, str(start)),
            ("trunk.run", language.FULL),
        ),
        *(
            Step(name, partial(language.train_on, name=name), schedule, (f"{name}.run",))
            for name, schedule in language.PASSES.items()
        ),
        *courses,
        Step("student", student.make_student, student.SETTINGS, ("factory/student", "student")),
        Step("quantize", quantizing.quantize_trunk, quantizing.TRUNK, ("factory/trunk", "trunk")),
        *rides,
        Step("outcomes", collect, (probing.EACH, probing.OTHERS), ("outcomes",)),
        Step("layers", partial(probing.choose_layers, choices=LAYERS), LAYERS),
        Step("features", features.make_features, features.SETTINGS),
        Step("vectors", steering.make_trained_vectors, steering.SETTINGS, ("vectors",)),
        Step("dialogue", steering.make_dialogue_feature, steering.DIALOGUE),
        Step("styled", collect_styled),
        Step("probes", probing.make_probes),
        Step("policy", deciding.make_policy, (pack.LAMBDA, pack.RISKS, pack.COVERAGE)),
        Step("verify", verifying.verify, verifying.FLOOR),
        Step("pack", partial(pack.pack, target=target)),
    ]


def run(work: Work, target: Path, until: str | None = None, start: Path | None = None) -> None:
    """Run the recipe, or the part of it up to the step ``until``."""
    run_steps(steps(target, start), work, until)
