"""Recipe step that packs everything into a family folder and seals it with a manifest."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

from ...router.fingerprint import fingerprint
from ...router.policy import OutOfDistribution, Override, Policy, SteeringRule
from .. import integrity
from ..card import Card, Source
from ..family import Settings
from ..toml import dumps
from . import makers, probing, quantizing, steering
from .work import Work

CARDS = Path(__file__).with_name("cards.toml")
PRICES = {"arithmetic": 1.0, "facts": 0.4, "translate": 0.5, "emotion": 0.3, "screening": 0.2}
PRICES |= {"words": 0.4, "stories": 1.2, "help": 0.1}
STUDENT_BITS = "4 and 3 bits by NSDS, rounded by GPTQ, groups of 64; embedding in 8"
ADAPTER_BITS = f"{quantizing.ADAPTER[0]} bits, groups of {quantizing.ADAPTER[1]}"
LAMBDA = 0.01
RISKS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
COVERAGE = 0.85
TRUNK_DATA = (
    Source(name="classic books (public domain)", licence="public domain"),
    Source(name="FairytaleQA", licence="Apache-2.0"),
    Source(name="African Storybook, CC BY stories only", licence="CC BY 4.0"),
    Source(name="T0 training subset", licence="Apache-2.0"),
    Source(name="samples of tinystories-ple-c3M", licence="MIT"),
    Source(name="GoEmotions (single-label subset)", licence="Apache-2.0"),
    Source(name="LRE relations, function_vectors, BIPIA", licence="MIT"),
    Source(name="refusal splits", licence="Apache-2.0"),
    Source(name="SMS Spam Collection", licence="CC BY 4.0 (UCI); the copy read carries GPL-3.0"),
    Source(name="own generators", licence="Apache-2.0"),
    Source(
        name="CLINC150, Banking77, StackOverflow intents",
        licence="Apache-2.0 (repository); CLINC150 and Banking77 upstream CC BY",
    ),
    Source(name="MBPP", licence="MIT (README); upstream CC BY 4.0"),
    Source(name="Tatoeba", licence="CC BY 2.0 FR upstream"),
)


def make_policy(work: Work, threshold: float, risk: float | None = None) -> Policy:
    """Write the starter's policy around the vectors that passed."""
    have = {path.name for path in work.path("vectors").iterdir()}
    rules = [
        SteeringRule(reading=name, vector=name, specialists=(steering.CARRIER,))
        for name in ("dialogue", *(f"reply-{code}" for code in ("fr", "es", "de")))
        if name in have
    ]
    refuse = "refuse" if "refuse" in have else None
    return Policy(
        lam=LAMBDA,
        prices=PRICES,
        threshold=threshold,
        risk=risk,
        steering=tuple(rules),
        overrides=(Override(reading="harm", specialist=steering.CARRIER, steering=refuse),),
        ood=OutOfDistribution(reading="outside", block=False, scale=False),
    )


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder of artifacts, leaving out what only the recipe needs."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.part", "README.md"))


def card_of(name: str, parent: str, metrics: dict[str, Any]) -> Card:
    """Read one specialist's own words and add what packing knows."""
    words = tomllib.loads(CARDS.read_text(encoding="utf-8"))[name]
    kind = {"help": "cards", makers.STUDENT: "student"}.get(name, "adapter")
    quantization = {"help": None, makers.STUDENT: STUDENT_BITS}.get(name, ADAPTER_BITS)
    parent_sha256 = None if name == "help" else parent
    fields = {"name": name, "kind": kind, "parent_sha256": parent_sha256, "metrics": metrics, **words}
    return Card.model_validate(fields | {"quantization": quantization})


def pack(work: Work, target: Path) -> None:
    """Replace the family at ``target`` by what this run made.

    Raises:
        FileNotFoundError: an earlier step did not leave its artifact.
    """
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    copy_tree(work.path("trunk"), part / "trunk")
    parent = fingerprint(work.path("trunk"))
    metrics = json.loads(work.path("metrics.json").read_text()) if work.path("metrics.json").exists() else {}
    names = [*makers.COURSES, "help"]
    for name in names:
        folder = part / "specialists" / name
        if name == makers.STUDENT:
            copy_tree(work.path("student"), folder)
        elif name != "help":
            copy_tree(work.path("adapters", name), folder)
        card_of(name, parent, metrics.get(name, {})).save(folder)
    for kind in ("probes", "features", "vectors"):
        copy_tree(work.path(kind), part / kind)
    shutil.copy(work.path("policy.json"), part / "policy.json")
    settings = Settings(
        name="starter",
        title="Starter",
        description="Seven small specialists and a help desk over one 8-million-parameter trunk, quantized.",
        licence="Apache-2.0",
        trunk="trunk",
        trunk_fingerprint=parent,
        scout_layers=probing.scout_layers(work),
        specialists=tuple(names),
        data=TRUNK_DATA,
    )
    (part / "family.toml").write_text(dumps(settings.model_dump(exclude_none=True)), encoding="utf-8")
    integrity.seal(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    size = sum(path.stat().st_size for path in target.rglob("*.safetensors"))
    work.say(f"packed {target}: {size / 1e6:.1f} MB of weights")
