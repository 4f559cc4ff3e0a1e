"""Put a finished artifact into a family: into a copy, which takes the family's place whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...router.fingerprint import fingerprint
from ...store.errors import ArtifactError, UsageError
from ..card import Card, Source
from ..family import STARTER, Family, known_families
from ..integrity import seal
from .recipe import Planned, Register, Whole, target_of
from .step import Made
from .verify_step import read_report

ROOMS = ("probes", "features", "vectors")


class StaleError(ArtifactError):
    """What was fitted on the old model does not hold on the new one: nothing is registered."""


def register(whole: Whole, made_by: Callable[[str], Made], results: Mapping[str, Any]) -> Path:
    """Register the recipe's artifact and return the family's folder.

    Raises:
        StaleError: a probe, dictionary or steering entry went stale, or nothing was verified where the
            family has probes.
        UsageError: the family is the embedded one, or lies in no folder of its own.
    """
    asked = whole.recipe.register_as
    assert asked is not None
    family = Family.open(_place(asked, whole))
    if family.folder == known_families().get(STARTER):
        raise UsageError(
            "the embedded family is not changed: make one of your own (pilothouse family new), and name it "
            "in [register] family"
        )
    step = target_of(whole)
    made = made_by(step.name)
    checked = _verified(whole, made_by, made, family, asked)
    part = family.folder.with_name(f".{family.folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(family.folder, part, symlinks=True)
    if asked.role == "trunk":
        _as_trunk(family, part, made, checked)
    else:
        _as_specialist(family, part, made, asked, whole, step, results)
        if checked is not None:
            shutil.copytree(checked / "probes", part / "probes", dirs_exist_ok=True)
    seal(part)
    _sound(part)
    _swap(part, family.folder)
    return family.folder


def _place(asked: Register, whole: Whole) -> str | Path:
    if asked.family is None:
        assert whole.family is not None
        return whole.family
    return asked.family


def _verified(
    whole: Whole, made_by: Callable[[str], Made], made: Made, family: Family, asked: Register
) -> Path | None:
    """Return the folder of the verification of this very artifact, which found nothing stale."""
    for step in whole.steps:
        if step.kind.name != "verify":
            continue
        folder = made_by(step.name).folder
        report = read_report(folder)
        if report["for"] == made.sha256 and report["role"] == asked.role:
            if report["stale"]:
                raise StaleError(
                    f"{asked.specialist} is not registered: {', '.join(report['stale'])} went stale on the "
                    f"new model (see {folder / 'report.json'}); give verify more data, or labels of its own"
                )
            return folder
    if family.bank is not None or (asked.role == "trunk" and (family.vectors or family.saes)):
        raise StaleError(
            f"{asked.specialist} is not registered: family {family.name} has probes, and no verify step as "
            f"{asked.role} examined {made.name}; add one after it"
        )
    return None


def _as_specialist(
    family: Family,
    part: Path,
    made: Made,
    asked: Register,
    whole: Whole,
    step: Planned,
    results: Mapping[str, Any],
) -> None:
    target = part / "specialists" / asked.specialist
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(made.folder, target)
    figures = results["steps"][step.name]["figures"]
    Card(
        name=asked.specialist,
        kind="adapter" if made.form == "adapter" else "student",
        title=asked.title,
        description=asked.description,
        examples=asked.examples,
        skills=asked.skills,
        data=tuple(Source(name=d.name, licence=d.licence, source=d.source) for d in whole.data.values()),
        method=" → ".join(s.kind.name for s in whole.steps),
        parent_sha256=family.trunk_fingerprint,
        metrics={k: float(v) for k, v in figures.items() if isinstance(v, float)},
        max_tokens=asked.max_tokens,
        out_of_domain=asked.out_of_domain,
    ).save(target)
    names = tuple(dict.fromkeys((*family.settings.specialists, asked.specialist)))
    family.settings.model_copy(update={"specialists": names}).save(part)


def _as_trunk(family: Family, part: Path, made: Made, checked: Path | None) -> None:
    """Replace the trunk and all that was fitted on it; adapters ride on the new one."""
    shutil.rmtree(part / "trunk", ignore_errors=True)
    shutil.copytree(made.folder, part / "trunk")
    for room in ROOMS:
        shutil.rmtree(part / room, ignore_errors=True)
        if checked is not None and (checked / room).is_dir():
            shutil.copytree(checked / room, part / room)
    found = fingerprint(part / "trunk")
    for name, card in family.cards.items():
        if card.parent_sha256 is not None:
            card.model_copy(update={"parent_sha256": found}).save(part / "specialists" / name)
    changes = {"trunk": "trunk", "trunk_path": None, "trunk_fingerprint": found}
    family.settings.model_copy(update=changes).save(part)


def _sound(part: Path) -> None:
    """Open the copy as a user would, probes and vectors too, before it takes its place."""
    family = Family.open(part)
    family.verify()
    _ = (family.bank, family.vectors, family.saes, family.policy)


def _swap(part: Path, folder: Path) -> None:
    """Let the copy take the family's place; a kill in between leaves the old one beside it, under .old."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
