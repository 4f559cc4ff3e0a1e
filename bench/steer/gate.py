"""The choice of layer and strength, and the validation gate, on the toy with a planted hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...router.steer.admission import Admission, admit, of_equal_push
from ...router.steer.choice import Choice, divergence, neutral, stronger
from ...router.steer.corrsteer import Pick, entries, picks
from ...router.steer.making import Found, corrsteer_entry
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
    """One seed: the entry as it was chosen, the gate's verdict on it, and on entries that must not pass."""

    found: Found
    entry: Admission
    controls: dict[str, list[Admission]]


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

    def judge(vectors: Vectors, budget: float = BUDGET) -> Admission:
        return admit(model, hint.test, vectors, found.rivals, cost, budget=budget, seed=seed, draws=3)

    null = [
        of_equal_push(entries(picks(one, "S"), hint.saes, "null"), found.vectors)
        for one in hint.found("max", controls)[1:]
        if picks(one, "S")
    ]
    random = [entries([_random(hint, i)], hint.saes, "random") for i in range(controls)]
    return Judged(
        found,
        judge(found.vectors),
        {
            "shuffled labels": [judge(one) for one in null],
            "random features": [judge(of_equal_push(one, found.vectors)) for one in random],
            _STRONG: [judge(stronger(found.vectors, 8.0))],
        },
    )


def _nothing() -> Admission:
    return Admission("", (), 0, 0.0, 0.0, (), float("inf"), BUDGET, None, None)


def _random(hint: Hint, seed: int) -> Pick:
    generator = torch.Generator().manual_seed(100 + seed)
    layers = sorted(hint.saes)
    layer = layers[int(torch.randint(len(layers), (1,), generator=generator))]
    return Pick(layer, int(torch.randint(hint.saes[layer].d_sae, (1,), generator=generator)), 0.0, 1.0)


def section(seeds: Sequence[int], seed: int, quick: bool, out: Path) -> Section:
    """What is chosen, and what the gate lets through."""
    found = [measure(one, 120 if quick else 400, 3 if quick else 10) for one in seeds]
    controls = [verdict for m in found for name in _NULL for verdict in m.controls.get(name, [])]
    strong = [one for m in found for one in m.controls.get(_STRONG, [])]
    rows = [(f"seed {one}", *_chosen(m)) for one, m in zip(seeds, found, strict=True)]
    return Section(
        "Layer and strength, and the gate",
        f"An entry is found on prompts half of which have the hint; layer (each alone, all, or pruned) and "
        f"strength are chosen on prompts without it, under a budget of {BUDGET} nats a token on neutral "
        f"text (prompts with one answer, hint or not); the gate judges on others. Controls: "
        f"{len(controls)} entries from shuffled labels and random features, pushing as far as the entry.",
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
                estimates.mean([one.admitted for one in controls], seed) if controls else None,
            ),
            Goal(
                "the gate admits an entry beyond the budget",
                "at most",
                0.0,
                "%",
                estimates.mean([one.admitted for one in strong], seed) if strong else None,
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
    arms = [f"{100 * one.right:.1f} %, gain at least {100 * one.low:.1f}" for one in m.entry.arms]
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
        said.append(f"{name}: {sum(one.admitted for one in verdicts)} of {len(verdicts)} admitted")
    return tuple(said)


def _picture(choice: Choice, out: Path) -> tuple[tuple[str, str], ...]:
    from .pictures import against

    rows: dict[str, list[tuple[float, float]]] = {}
    for one in choice.tried:
        rows.setdefault(one.option, []).append((one.side_effect, one.effect))
    name = "steer-choice.png"
    against(out / name, rows, "KL on neutral text, nats a token", "share of right answers", choice.budget)
    return ((name, "Effect against side effect: each option at each strength, and the budget"),)
