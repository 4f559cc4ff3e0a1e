"""A model that nobody here trained: stories260K, where a data folder has it."""

from __future__ import annotations

from pathlib import Path

from ...router.locate.case import Case, settle
from ...router.locate.methods import locate
from ...router.locate.options import Options
from .. import estimates
from ..page import Goal, Section
from .arithmetic import sum_error
from .trunk import opened

DATA = Path("../shared/data")
TEXTS = (
    "Once upon a time, there was a little girl named Lily. She loved to play with her",
    "Tom had a big red ball. He threw the ball to his dog. The dog was very",
    "One day, a bird saw a cat in the garden. The bird was scared and wanted to fly",
    "Mom gave Ben a cookie. Ben said thank you and ate the",
)
METHODS = ("lens", "neurons", "channels", "queries", "heads", "layers", "gradient", "ablate", "flow", "sinks")


def section(data: Path | None, count: int, seed: int) -> Section | None:
    """Run the methods that need nothing but prompts; None where the model is not there."""
    folder = (data or DATA) / "models" / "stories260K"
    if not folder.is_dir():
        return None
    anatomy, codec = opened(folder)
    cases = settle(anatomy, [Case(tuple(codec.encode_text(text)), -1) for text in TEXTS[:count]])
    rows = []
    for method in METHODS:
        finding = locate(method, anatomy, cases, Options(top=3))
        rows.append((method, ", ".join(f"{one.name} {one.score:.3g}" for one in finding.found)))
    errors = estimates.mean([sum_error(anatomy, case) for case in cases], seed)
    return Section(
        "stories260K",
        f"A Llama of 260,000 parameters trained by others ({anatomy.layers} layers, {anatomy.heads} heads "
        "sharing "
        f"{anatomy.groups} values). The first three places by each method.",
        ("method", "found"),
        tuple(rows),
        (
            Goal(
                "stories260K: parts' logits sum to the true logits (largest error)",
                "at most",
                1e-4,
                "e",
                errors,
            ),
        ),
    )
