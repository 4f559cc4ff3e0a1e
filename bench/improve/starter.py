"""The starter family beside an earlier one: every skill on the same test rows, and the bytes it takes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ...specialists.family import Family
from ...specialists.family import starter as embedded
from ...specialists.weights import QUANTIZATION
from ...store.errors import UsageError
from .. import estimates
from ..page import Goal, Section, cell, signed
from ..starter import skills
from ..starter.prompts import HELP
from ..starter.stage import Stage
from .lab import Lab

HALF = 0.5
HEADER = ("skill", "n", "before", "now", "now − before, points (paired)", "bytes before", "now", "share")
Rows = dict[str, dict[str, list[bool]]]


def answered(lab: Lab, family: Family, data: Path, seed: int) -> Rows:
    """Which test rows of each skill and group a family's specialists get right."""
    stage = Stage.open(family, data, seed, lab.quick, lab.say)
    try:
        return {
            skill: {one.group: [o.correct for o in one.own] for one in skills.measure(stage, skill)}
            for skill in stage.specialists
            if skill != HELP
        }
    finally:
        stage.close()


def weighed(family: Family) -> dict[str, int]:
    """Bytes of weights that an answer of each specialist needs (its own, and the trunk's where it rides on
    that), and of the whole family.
    """
    trunk = size(family.trunk_folder)
    found = {
        name: size(family.specialist_folder(name)) + (0 if card.kind == "student" else trunk)
        for name, card in family.cards.items()
        if card.kind != "cards"
    }
    return found | {"all weights": size(family.folder)}


def size(folder: Path) -> int:
    """Bytes of the weights below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def trial(lab: Lab, folder: Path, data: Path, seed: int) -> dict[str, Any]:
    """Answers and bytes of one family."""
    family = Family.open(folder)
    return {"right": answered(lab, family, data, seed), "bytes": weighed(family), "stored": stored(family)}


def stored(family: Family) -> str:
    """How the trunk's layers are stored."""
    path = family.trunk_folder / QUANTIZATION
    if not path.is_file():
        return "not quantized"
    head = json.loads(path.read_text(encoding="utf-8"))
    return f"{head['allocation']}, {head['solver']}, bits by layer {' '.join(map(str, head['layers']))}"


def section(lab: Lab, before: Path | None, data: Path) -> Section:
    """Measure both families on the same rows.

    Raises:
        UsageError: no earlier family was named.
    """
    if before is None:
        raise UsageError("the section starter compares with an earlier family: name its folder with --before")
    seed = lab.seeds[0]
    was, now = (kept(lab, folder, data, seed) for folder in (before, embedded()))
    weights = [f["bytes"]["all weights"] for f in (was, now)]
    found = [_skill(name, was, now, seed) for name in now["right"]]
    rows = [row for table, _ in found for row in table]
    goals = [goal for _, several in found for goal in several]
    return Section(
        "The starter family, quantized",
        "The same test rows (unseen rows, unseen templates) answered by the embedded family and by the one "
        "before it. Bytes are those of the weights that an answer needs: trunk and adapter, or the student "
        "alone. Routing and calibration of the family that ships are in [starter.md](starter.md).",
        HEADER,
        (*rows, ("all weights", "", "", "", "", *_sizes(*weights))),
        (*goals, _bytes("all weights", *weights)),
        notes=(f"Trunk before: {was['stored']}. Now: {now['stored']}.",),
    )


def kept(lab: Lab, folder: Path, data: Path, seed: int) -> dict[str, Any]:
    """A family's trial, made once."""
    sealed = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:12]
    return lab.keep(f"starter/{sealed}", lambda: trial(lab, folder, data, seed))


def _skill(
    skill: str, was: dict[str, Any], now: dict[str, Any], seed: int
) -> tuple[list[tuple[str, ...]], list[Goal]]:
    """A skill's rows and goals."""
    weights = was["bytes"][skill], now["bytes"][skill]
    rows, goals = [], [_bytes(skill, *weights)]
    for group, right in now["right"][skill].items():
        old = was["right"][skill][group]
        gap = estimates.difference(right, old, seed)
        name = skill if group == "all" else f"{skill}: {group}"
        shares = [cell(estimates.mean(x, seed), "%") for x in (old, right)]
        rows.append((name, str(len(right)), *shares, signed(gap), *_sizes(*weights)))
        goals.append(Goal(f"starter v2, {name}: now − before", "at least", 0.0, "%", gap))
    return rows, goals


def _sizes(old: int, new: int) -> tuple[str, str, str]:
    return f"{old / 1e6:.2f} MB", f"{new / 1e6:.2f} MB", f"{new / old:.1%}"


def _bytes(what: str, old: int, new: int) -> Goal:
    share = estimates.Estimate(new / old, new / old, new / old, 1)
    return Goal(f"starter v2, {what}: bytes by those of before", "at most", HALF, "%", share)
