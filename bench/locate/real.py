"""Models that nobody here trained, where a data folder has them: stories260K, and tinystories-ple-c3M with
its per-layer embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case, settle
from ...router.locate.methods import locate
from ...router.locate.options import Options
from .. import estimates
from ..page import Goal, Section
from .arithmetic import sum_error
from .trunk import opened

DATA = Path("../shared/data")
PLE = "tinystories-ple-c3M"
TEXTS = (
    "Once upon a time, there was a little girl named Lily. She loved to play with her",
    "Tom had a big red ball. He threw the ball to his dog. The dog was very",
    "One day, a bird saw a cat in the garden. The bird was scared and wanted to fly",
    "Mom gave Ben a cookie. Ben said thank you and ate the",
)
METHODS = ("lens", "neurons", "channels", "queries", "heads", "layers", "gradient", "ablate", "flow", "sinks")


def model_folder(data: Path | None, name: str) -> Path | None:
    """Where a model lies; None where it does not."""
    folder = (data or DATA) / "models" / name
    return folder if folder.is_dir() else None


def section(data: Path | None, count: int, seed: int) -> Section | None:
    """Run the methods that need nothing but prompts on stories260K; None where the model is not there."""
    folder = model_folder(data, "stories260K")
    if folder is None:
        return None
    anatomy, codec = opened(folder)
    cases = settle(anatomy, [Case(tuple(codec.encode_text(text)), -1) for text in TEXTS[:count]])
    about = (
        f"A Llama of 260,000 parameters trained by others ({anatomy.layers} layers, {anatomy.heads} heads "
        f"sharing {anatomy.groups} values)."
    )
    return _table("stories260K", about, anatomy, cases, seed)


def ple_section(data: Path | None, count: int, seed: int) -> Section | None:
    """The same on tinystories-ple-c3M, whose layers have a third part."""
    folder = model_folder(data, PLE)
    if folder is None:
        return None
    from tokenizers import Tokenizer

    from .ple import load_ple

    anatomy = Anatomy.of(load_ple(folder))
    tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    cases = settle(anatomy, [Case(tuple(tokenizer.encode(text).ids), -1) for text in TEXTS[:count]])
    about = (
        f"A decoder of 5 million parameters trained by others ({anatomy.layers} layers, {anatomy.heads} "
        "heads), in whose layers a table adds a third part for each token; the parts add up with it, and "
        "circuits, which know two, refuse."
    )
    return _table(PLE, about, anatomy, cases, seed)


def _table(name: str, about: str, anatomy: Anatomy, cases: Sequence[Case], seed: int) -> Section:
    rows = []
    for method in METHODS:
        finding = locate(method, anatomy, cases, Options(top=3))
        rows.append((method, ", ".join(f"{one.name} {one.score:.3g}" for one in finding.found)))
    errors = estimates.mean([sum_error(anatomy, case) for case in cases], seed)
    what = f"{name}: parts' logits sum to the true logits (largest error)"
    return Section(
        name,
        f"{about} The first three places by each method.",
        ("method", "found"),
        tuple(rows),
        (Goal(what, "at most", 1e-4, "e", errors),),
    )
