"""Make an entry from a task, whole: find it, choose its layer and strength, and make its rivals from shuffled
labels, which the gate will ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...store.errors import ArtifactError, UsageError
from ..features.sae import SAE
from ..files import write_json
from .admission import of_equal_push
from .branches import gated_entries
from .choice import STRENGTHS, Choice, Score, choose
from .corrsteer import Pool, correlate, entries, picks, pruned, shuffled
from .crl import Control, Masking, states_of, train
from .ppo import Recipe
from .task import Task, play, right
from .vector import SteeringVector

Vectors = tuple[SteeringVector, ...]
RIVALS = 19  # of which an entry that is one more of them is the best in one case of 20


@dataclass(frozen=True)
class Found:
    """An entry (`vectors` empty where nothing was worth it), its rivals, and how it was chosen."""

    vectors: Vectors
    rivals: tuple[Vectors, ...]
    choice: Choice
    method: str

    def save(self, folder: Path) -> None:
        """Write `choice.json`, `vectors/NAME/` and `rivals/I/NAME/`.

        Raises UsageError where the folder holds something already.
        """
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; name a new folder for the entry")
        write_json(folder / "choice.json", {"method": self.method, **self.choice.record()})
        for one in self.vectors:
            one.save(folder / "vectors" / one.name)
        for index, rival in enumerate(self.rivals):
            (folder / "rivals" / str(index)).mkdir(parents=True, exist_ok=True)
            for one in rival:
                one.save(folder / "rivals" / str(index) / one.name)


def load_vectors(folder: Path) -> Vectors:
    """The vectors in a folder's sub-folders, by name. Raises ArtifactError when one is damaged."""
    return tuple(SteeringVector.load(path.parent) for path in sorted(folder.glob("*/vector.json")))


def load_rivals(folder: Path) -> tuple[Vectors, ...]:
    """The rivals of an entry's folder. Raises ArtifactError when there are none."""
    found = tuple(load_vectors(path) for path in sorted((folder / "rivals").glob("*")) if path.is_dir())
    if not found:
        raise ArtifactError(f"{folder} holds no rivals from shuffled labels; make the entry again")
    return found


def effect_on(model: nn.Module, task: Task) -> Score:
    """Share of right answers of a task under vectors."""
    return lambda vectors: right(play(model, task, vectors))


def corrsteer_entry(
    model: nn.Module,
    fit: Task,
    validate: Task,
    saes: Mapping[int, SAE],
    cost: Score,
    *,
    name: str,
    budget: float,
    pool: Pool = "max",
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    fingerprint: str = "",
) -> Found:
    """Make an entry by CorrSteer: features found on `fit`; among each layer alone (S is one of them), A and
    P, the best on `validate` within the budget.

    Raises UsageError when all answers to `fit` are right, or all wrong.
    """
    labels = [one.right for one in play(model, fit)]
    null = [shuffled(labels, seed + i) for i in range(RIVALS)]
    found, *nulls = correlate(model, fit, saes, [labels, *null], pool)
    every = entries(picks(found, "A"), saes, name, fingerprint)
    baseline = right(play(model, validate))
    options: dict[str, Vectors] = {f"L{one.layer}": (one,) for one in every}
    if len(every) > 1:
        options |= {"A": every, "P": pruned(model, validate, every, baseline)}
    options = {option: vectors for option, vectors in options.items() if vectors}
    if not options:
        return Found(
            (), (), Choice("", 0.0, "no feature goes with being right", (), baseline, budget, ()), "corrsteer"
        )
    choice = choose(
        options, effect_on(model, validate), cost, budget=budget, baseline=baseline, strengths=strengths
    )
    layers = {one.layer for one in choice.vectors}
    rivals = []
    for other in nulls:
        made = entries([p for p in picks(other, "A") if p.layer in layers], saes, name, fingerprint)
        rivals.append(of_equal_push(made, choice.vectors) if made and layers else ())
    return Found(_told(choice, "corrsteer"), tuple(rivals), choice, "corrsteer")


def crl_entry(
    model: nn.Module,
    fit: Task,
    validate: Task,
    sae: SAE,
    strength: Tensor,
    cost: Score,
    *,
    name: str,
    budget: float,
    recipe: Recipe,
    masking: Masking = "none",
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    rivals: int = 1,
    fingerprint: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Found:
    """Make entries by control reinforcement learning: a policy trained on `fit`, written as gated features,
    their common strength chosen on `validate`. Rivals are trained on shuffled rewards.
    """

    def made(shuffle: bool, index: int) -> Vectors:
        net = train(
            model,
            fit,
            sae,
            strength,
            recipe,
            seed + index,
            masking,
            lambda told: (
                say(f"update {told.update}: {told.reward:.2f} right") if told.update % 20 == 0 else None
            ),
            shuffle=shuffle,
        )
        return gated_entries(
            Control(model, net, sae, strength, masking), fit, name, least=0.0, fingerprint=fingerprint
        )

    choice = choose(
        {f"L{sae.layer}": made(False, 0)},
        effect_on(model, validate),
        cost,
        budget=budget,
        baseline=right(play(model, validate)),
        strengths=strengths,
    )
    others = [made(True, 1 + i) for i in range(rivals)] if choice.vectors else []
    return Found(
        _told(choice, "crl"), tuple(of_equal_push(one, choice.vectors) for one in others), choice, "crl"
    )


def _told(choice: Choice, method: str) -> Vectors:
    """The chosen vectors, with the choice in their `meta`."""
    record = {"method": method, "choice": choice.record()}
    return tuple(replace(one, meta=one.meta | record) for one in choice.vectors)


def usual_strengths(model: nn.Module, task: Task, sae: SAE, least: float = 0.01) -> Tensor:
    """A strength for each feature [S]: its mean activation where it is active, at the tokens that answers are
    drawn from; 0, and so never picked, for features active at fewer than `least` of them.
    """
    acts = sae.encode(states_of(model, task, sae.layer))
    active = acts > 0
    mean = acts.sum(0) / active.sum(0).clamp_min(1)
    return torch.where(active.float().mean(0) >= least, mean, torch.zeros_like(mean))
