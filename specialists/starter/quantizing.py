"""Recipe step that stores the trunk in few bits: NSDS says which layers need more of them, GPTQ rounds.

All that comes after (the adapters' second part, dictionaries, vectors, probes) is made on the quantized
trunk, so that nothing has to survive a change of weights.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from ..improve.quantize import quantize_folder
from . import corpus, factory
from .language import FULL
from .skills.example import Example
from .work import Work

READ = 48  # rows of each skill that rounding looks at
TRUNK = {
    "step": "quantize",
    "from": "trunk",
    "data": "read",
    "allocation": "nsds",
    "budget": 7.0,
    "high": 8,
    "low": 4,
    "embeddings": 8,
    "solver": "gptq",
    "group": 64,
    "rows": READ * len(corpus.SKILLS),
    "length": 192,
}
ADAPTER = (4, 64)  # bits, columns of a group


def quantize_trunk(work: Work) -> None:
    """Write `trunk/`, the quantized twin of the trained trunk."""
    data = {"read": read_rows(work)}
    made = factory.run_recipe(work, "trunk", work.path(FULL), data, [TRUNK], "Apache-2.0")
    factory.take(made, work.path("trunk"))


def read_rows(work: Work) -> list[Example]:
    """Lessons of every skill in equal parts, mixed: what the rounding of the trunk looks at."""
    rows: list[Example] = []
    for skill in corpus.SKILLS:
        rows += corpus.draw(skill, "train", READ, work.seed + 9, work.sources)[:READ]
    return random.Random(work.seed).sample(rows, len(rows))


def quantize_adapter(source: Path, target: Path) -> str:
    """Write the quantized twin of an adapter, and return what it cost in words."""
    shutil.rmtree(target, ignore_errors=True)
    report = quantize_folder(source, target, *ADAPTER, method="hqq")
    return (
        f"{report.bytes_before / 1e6:.2f} MB to {report.bytes_after / 1e6:.2f} MB, "
        f"relative error {report.relative_error:.4f}"
    )
