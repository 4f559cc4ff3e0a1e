"""How each head is fitted, by name. A recipe that cannot work on a table says so and is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ...store.errors import UsageError
from .ability import Ability
from .grouping import Guess, Prior
from .heads import Constant, Head, Linear, Plain
from .nearness import Kernel, Neighbours
from .seen import Seen, targets_of
from .trees import Trees
from .wording import Surface, Wording

Recipe = Callable[[Seen, Tensor], Head]


def _on_values(fit: Callable[[Seen, Tensor], Head]) -> Recipe:
    return lambda seen, quality: fit(seen, targets_of(quality).values)


def _characters(seen: Seen, values: Tensor) -> Head:
    return Wording.fit(seen, values, "characters")


def _codes(seen: Seen, values: Tensor) -> Head:
    return Plain.fit(seen, values, "codes")


def _length(seen: Seen, values: Tensor) -> Head:
    return Surface.fit(seen, values, "length")


def _ability(seen: Seen, quality: Tensor) -> Head:
    return Ability.fit(seen, quality, targets_of(quality).base)


# Every recipe takes what is seen and quality [N,M].
RECIPES: Mapping[str, Recipe] = {
    "constant": _on_values(Constant.fit),
    "length": _on_values(_length),
    "surface": _on_values(Surface.fit),
    "words": _on_values(Wording.fit),
    "characters": _on_values(_characters),
    "prior": _on_values(Prior.fit),
    "confidence": _on_values(Plain.fit),
    "features": _on_values(_codes),
    "linear": _on_values(Linear.fit),
    "low-rank": _on_values(Linear.fit_low_rank),
    "kernel": _on_values(Kernel.fit),
    "neighbours": _on_values(Neighbours.fit),
    "guess": _on_values(Guess.fit),
    "ability": _ability,
    "trees": _on_values(Trees.fit),
}
# What a policy is stacked from unless told otherwise. `prior` needs the group at run time; the stack has
# `guess`.
STACKED = (
    "surface",
    "words",
    "characters",
    "confidence",
    "features",
    "linear",
    "low-rank",
    "kernel",
    "neighbours",
    "guess",
    "ability",
    "trees",
)
# Rows that need no learning worth the name: what a policy must beat.
BASELINES = ("constant", "length", "prior", "words", "neighbours")
KINDS: Mapping[str, type[Any]] = {
    kind.kind: kind
    for kind in (Constant, Surface, Wording, Prior, Plain, Linear, Kernel, Neighbours, Guess, Ability, Trees)
}


def usable(name: str, seen: Seen, quality: Tensor) -> str:
    """Why a recipe cannot work on this table; empty where it can. Raises UsageError for an unknown name."""
    if name not in RECIPES:
        raise UsageError(f"there is no head {name!r}; choose of {', '.join(RECIPES)}")
    if name in ("linear", "low-rank", "kernel", "neighbours", "guess", "ability") and seen.states is None:
        return "there is no scout"
    if name == "confidence" and seen.signals is None:
        return "the scout gives no log-probabilities"
    if name == "features" and seen.codes is None:
        return "the scout has no dictionary of features"
    if name in ("prior", "guess"):
        counts = [seen.groups.count(g) for g in set(seen.groups) - {""}]
        if sum(count >= 8 for count in counts) < 2:
            return "the table names fewer than two groups of 8 prompts"
    if name == "low-rank" and quality.shape[1] < 3:
        return "fewer than three models share nothing"
    if name == "trees":
        from importlib.util import find_spec

        if find_spec("sklearn") is None:
            return "scikit-learn is not installed"
    return ""
