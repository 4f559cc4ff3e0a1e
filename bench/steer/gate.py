"""The choice of layer and strength, and the validation gate, on the toy with a planted hint."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...router.steer.admission import Admission, Arm, admit, arm, evidence, of_equal_push, random_twin
from ...router.steer.choice import Choice, Score, divergence, neutral, stronger
from ...router.steer.corrsteer import Pick, entries, picks
from ...router.steer.making import RIVALS, Found, corrsteer_entry
from ...router.steer.task import Answer, play
from .. import estimates
from ..page import Goal, Section
from . import toy as toys
from .hint import Hint, Vectors
from .toy import TAIL, Toy, tails

BUDGET = 0.1  # nats a token
STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)
FALSE_ADMISSIONS = 0.05


@dataclass(eq=False)
class Judged:
    """One seed: the entry as it was chosen, the gate's verdict on it, and whether it admitted entries that
    must not pass.
    """

    found: Found
    entry: Admission
    controls: dict[str, list[bool]]


def neutral_rows(toy: Toy, count: int) -> list[tuple[int, ...]]:
    """Text that an entry for the hint should leave alone: prompts whose answer is the same with and without
    it.
    """
    found = []
    for prompt in toy.draw(count, 9, (0,)):
        key = toy.key(prompt)
        if toy.value(key, 0) == toy.value(key, 1):
            found.append((*prompt, toy.value(key, 1), *[TAIL] * tails(key)))
    return found


def measure(seed: int, count: int, controls: int) -> Judged:
    """Make an entry, choose its strength, and put it and its controls before the gate."""
    hint = Hint(toys.make(1, False, seed), count)
    model = hint.toy.model
    cost = divergence(model, neutral(neutral_rows(hint.toy, 256), begin=4))
    found = corrsteer_entry(
        model,
        hint.fit,
        hint.task(5, (0,)),
        hint.saes,
        cost,
        name="hint",
        budget=BUDGET,
        strengths=STRENGTHS,
        seed=seed,
    )
    if not found.vectors:
        return Judged(found, _nothing(), {})

    def judge(vectors: Vectors) -> Admission:
        return admit(model, hint.test, vectors, found.rivals, cost, budget=BUDGET, seed=seed)

    nulls = Nulls.make(hint, found.vectors, cost, controls, seed)
    return Judged(
        found,
        judge(found.vectors),
        {
            "shuffled labels": [nulls.admits(i) for i in range(controls)],
            "random features": [nulls.admits(i, nulls.random(i)) for i in range(controls)],
            _STRONG: [judge(stronger(found.vectors, 8.0)).admitted],
        },
    )


@dataclass(eq=False)
class Nulls:
    """Entries from shuffled labels, made as the gate's rivals are: at the layers of the entry, as far a push.
    Each is put before the gate with others of them as its rivals, whose answers are had once.
    """

    hint: Hint
    like: Vectors
    cost: Score
    made: list[Vectors]
    answers: list[list[Answer]]
    seed: int

    @classmethod
    def make(cls, hint: Hint, like: Vectors, cost: Score, count: int, seed: int) -> Nulls:
        """Make `count` of them, and as many more as one needs for rivals."""
        layers = {one.layer for one in like}
        made: list[Vectors] = []
        for found in hint.found("max", count + RIVALS)[1:]:
            chosen = [one for one in picks(found, "A") if one.layer in layers]
            made.append(of_equal_push(entries(chosen, hint.saes, "null"), like) if chosen else ())
        return cls(hint, like, cost, made, [hint.answers(one) if one else hint.plain for one in made], seed)

    def random(self, index: int) -> Vectors:
        """Features drawn at random, one for each of the entry's, with their true correlations."""
        generator = torch.Generator().manual_seed(7919 * self.seed + 100 + index)
        (found,), chosen = self.hint.found("max"), []
        for one in self.like:
            at = int(torch.randint(self.hint.saes[one.layer].d_sae, (1,), generator=generator))
            chosen.append(Pick(one.layer, at, float(found[one.layer].coefficients()[at]), 1.0))
        return of_equal_push(entries(chosen, self.hint.saes, "null"), self.like)

    def admits(self, index: int, vectors: Vectors | None = None) -> bool:
        """Whether the gate admits null entry `index`, or an entry in its place. What one comparison refuses
        is not put to the others.
        """
        entry = self.made[index] if vectors is None else vectors
        if not entry or self.cost(entry) > BUDGET:
            return False
        return all(one.beaten for one in self._arms(index, entry))

    def _arms(self, index: int, entry: Vectors) -> Iterator[Arm]:
        hint = self.hint
        ours = hint.answers(entry)
        yield arm("no steering", ours, [hint.plain])
        others = [i for i in range(len(self.made)) if i != index]
        rivals = random.Random(7919 * self.seed + index).sample(others, RIVALS)
        known = evidence([entry, *(self.made[i] for i in rivals)])
        yield arm("shuffled labels", ours, [self.answers[i] for i in rivals], known)
        twins = [random_twin(entry, RIVALS * index + i) for i in range(RIVALS)]
        yield arm("random directions", ours, [play(hint.toy.model, hint.test, one) for one in twins])


def _nothing() -> Admission:
    return Admission("", (), 0, 0.0, 0.0, (), float("inf"), BUDGET, None, None)


def section(seeds: Sequence[int], seed: int, quick: bool, out: Path) -> Section:
    """What is chosen, and what the gate lets through."""
    found = [measure(one, 120 if quick else 400, 5 if quick else 70) for one in seeds]
    controls = [verdict for m in found for name in _NULL for verdict in m.controls.get(name, [])]
    strong = [one for m in found for one in m.controls.get(_STRONG, [])]
    rows = [(f"seed {one}", *_chosen(m)) for one, m in zip(seeds, found, strict=True)]
    return Section(
        "Layer and strength, and the gate",
        f"An entry is found on prompts half of which have the hint; layer (each alone, all, or pruned) and "
        f"strength are chosen on prompts without it, under a budget of {BUDGET} nats a token on neutral "
        f"text (prompts with one answer, hint or not); the gate judges on others. Controls: "
        f"{len(controls)} entries from shuffled labels and random features, at the layers of the entry, "
        f"pushing as far, each with {RIVALS} rivals from other shuffled labels and {RIVALS} random "
        "directions.",
        ("", "chosen", "side effect", "right with it", *_ARMS, "gate"),
        tuple(rows),
        (
            Goal(
                "the gate admits the planted entry (share of seeds)",
                "at least",
                1.0,
                "%",
                estimates.mean([m.entry.admitted for m in found], seed),
            ),
            Goal(
                "the gate admits entries from shuffled labels and random features",
                "at most",
                FALSE_ADMISSIONS,
                "%",
                estimates.mean(controls, seed) if controls else None,
            ),
            Goal(
                "the gate admits an entry beyond the budget",
                "at most",
                0.0,
                "%",
                estimates.mean(strong, seed) if strong else None,
            ),
            Goal(
                "side effect of what was chosen (largest), under its budget",
                "at most",
                BUDGET,
                "nats",
                estimates.mean([m.entry.side_effect for m in found], seed),
            ),
        ),
        pictures=_picture(found[0].found.choice, out),
        notes=_admitted(found),
    )


_STRONG = "the entry, eight times as strong"
_NULL = ("shuffled labels", "random features")
_ARMS = ("no steering", "random directions", "shuffled labels")


def _chosen(m: Judged) -> tuple[str, ...]:
    choice = m.found.choice
    if not m.found.vectors:
        return (f"nothing: {choice.reason}", *["–"] * 6)
    arms = [f"{100 * one.right:.1f} %, {one.said}" for one in m.entry.arms]
    verdict = "admitted" if m.entry.admitted else "refused: " + "; ".join(m.entry.reasons)
    return (
        f"{choice.option} × {choice.strength:g}",
        f"{m.entry.side_effect:.3f} nats",
        f"{100 * m.entry.right:.1f} %",
        *arms,
        verdict,
    )


def _admitted(found: Sequence[Judged]) -> tuple[str, ...]:
    said = []
    for name in (*_NULL, _STRONG):
        verdicts = [one for m in found for one in m.controls.get(name, [])]
        said.append(f"{name}: {sum(verdicts)} of {len(verdicts)} admitted")
    return tuple(said)


def _picture(choice: Choice, out: Path) -> tuple[tuple[str, str], ...]:
    from .pictures import against

    rows: dict[str, list[tuple[float, float]]] = {}
    for one in choice.tried:
        rows.setdefault(one.option, []).append((one.side_effect, one.effect))
    name = "steer-choice.png"
    against(out / name, rows, "KL on neutral text, nats a token", "share of right answers", choice.budget)
    return ((name, "Effect against side effect: each option at each strength, and the budget"),)
