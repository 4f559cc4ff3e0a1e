"""Parts of the starter recipe that run as recipes of their own, through the same `build` that users call."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..improve.build import build
from ..improve.recipe import Recipe, plan
from .skills.example import Example
from .work import Work


def run_recipe(
    work: Work,
    name: str,
    trunk: Path,
    data: Mapping[str, Sequence[Example]],
    steps: Iterable[Mapping[str, Any]],
    licence: str,
) -> Path:
    """Run steps of `pilothouse build` from the model folder `trunk` in `factory/NAME`, and return the last
    one's artifact; a run that was interrupted goes on.

    The rows of `data`, without the turns before them, lie beside the recipe. Their splits keep rows apart
    already: what the recipe looks for is turned off.

    Raises:
        UsageError: the recipe cannot work, and why.
        BuildError: a step could not be finished.
    """
    folder = work.path("factory", name)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, rows in data.items():
        lines = (json.dumps({"prompt": e.prompt, "answer": e.answer}) + "\n" for e in rows if e.answer)
        (folder / f"{kind}.jsonl").write_text("".join(lines))
    tables = {
        kind: {"file": f"{kind}.jsonl", "licence": licence, "duplicates": "keep", "near": 1.0}
        for kind in data
    }
    given = {"name": name, "seed": work.seed, "trunk": str(trunk.resolve()), "licence": licence}
    recipe = Recipe.model_validate({**given, "data": tables, "steps": list(steps)})
    whole = plan(recipe, folder)
    build(whole, folder, resume=True, stream=work.stream)
    return folder / whole.steps[-1].name


def take(made: Path, target: Path) -> None:
    """Copy what a recipe made to where later steps read it, in the place of what an earlier run left."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(made, target)
