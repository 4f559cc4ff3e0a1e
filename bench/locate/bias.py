"""Editing bias neurons on the planted corpus: chosen on half of the words, judged on the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...router.locate.anatomy import Anatomy
from ...router.locate.place import Place
from ...router.steer.bias import Effect, Neurons, Trial, edit_bias, general_neurons
from .. import estimates
from ..page import Goal, Section, cell
from .genders import World, trained

STEPS, NEUTRAL = 300, 48


def section(seeds: Sequence[int], seed: int, quick: bool) -> Section:
    """What the plan does to bias, facts and neutral text, against as many general and random neurons."""
    rows: dict[str, list[Effect]] = {}
    counts, same = [], []
    for s in seeds:
        world = World.draw(s)
        anatomy = Anatomy.of(trained(world, s, 120 if quick else STEPS))
        found, count, reversible = _edited(anatomy, world, s)
        counts.append(float(count))
        same.append(float(reversible))
        for name, effect in found.items():
            rows.setdefault(name, []).append(effect)
    return _table(rows, counts, same, seed)


def _edited(anatomy: Anatomy, world: World, seed: int) -> tuple[dict[str, Effect], int, bool]:
    trades, facts = world.trade_cases(), world.fact_cases()
    chosen_on = Trial(trades[::2], facts[::2], world.neutral(NEUTRAL, 100 + seed))
    judged_on = Trial(trades[1::2], facts[1::2], world.neutral(NEUTRAL, 200 + seed))
    ids = torch.tensor([case.ids for case in trades])
    before = judged_on.measure(anatomy)
    plan = edit_bias(anatomy, chosen_on)
    if plan is None:
        return (
            {"as it is": before, "bias neurons": before, "general neurons": before, "random neurons": before},
            0,
            True,
        )
    with torch.no_grad():
        plain = anatomy.model(ids).logits
        with Neurons(anatomy, [plan]):
            changed = anatomy.model(ids).logits
        reversible = bool(torch.equal(anatomy.model(ids).logits, plain)) and not torch.equal(changed, plain)
    count = len(plan.neurons)
    drawn = torch.randperm(anatomy.layers * anatomy.neurons, generator=torch.Generator().manual_seed(seed))
    random = [Place("neuron", *divmod(int(at), anatomy.neurons)) for at in drawn[:count]]
    general = [one for one in general_neurons(anatomy, chosen_on, 2 * count) if one not in plan.neurons]
    found = {
        "as it is": before,
        "bias neurons": judged_on.measure(anatomy, plan.neurons, plan.scale),
        "general neurons": judged_on.measure(anatomy, general[:count]),
        "random neurons": judged_on.measure(anatomy, random),
    }
    return found, count, reversible


def _table(rows: dict[str, list[Effect]], counts: list[float], same: list[float], seed: int) -> Section:
    plain = rows["as it is"]

    def change(name: str, part: str, share: bool) -> list[float]:
        pairs = [(getattr(a, part), getattr(b, part)) for a, b in zip(plain, rows[name], strict=True)]
        return [(b / a if a else 1.0) - 1 if share else b - a for a, b in pairs]

    def told(name: str) -> tuple[str, ...]:
        parts = (("bias", True), ("facts", False), ("margin", True), ("perplexity", True))
        return (name, *(cell(estimates.mean(change(name, part, share), seed), "%") for part, share in parts))

    damage = [max(v, 1e-4) for v in change("bias neurons", "perplexity", True)]
    general = change("general neurons", "perplexity", True)
    return Section(
        "Editing bias neurons",
        "A corpus with 40 skewed trades, 40 words of given gender and 40 things, learnt by a toy "
        f"({len(rows['as it is'])} seeds). Neurons are chosen on half of the words and judged on the other "
        "half. Bias: mean |log P(he) - log P(she)| after a trade, "
        f"{estimates.mean([e.bias for e in plain], seed).value:.2f} nats as it is. Facts: accuracy on words "
        "of given gender, in points; margin: how clearly. Neutral text: sentences about things. Silenced: "
        f"{estimates.mean(counts, seed).value:.0f} neurons on average, and as many general or random ones. "
        "Entanglement shows in the margin: what of the facts' went with the bias.",
        ("silenced", "bias", "facts", "margin of facts", "perplexity of neutral text"),
        tuple(told(name) for name in rows if name != "as it is"),
        (
            Goal(
                "bias of trades",
                "at most",
                -0.3,
                "%",
                estimates.mean(change("bias neurons", "bias", True), seed),
            ),
            Goal(
                "accuracy on factual gender",
                "at least",
                -0.02,
                "%",
                estimates.mean(change("bias neurons", "facts", False), seed),
            ),
            Goal(
                "perplexity of neutral text rises by",
                "at most",
                0.02,
                "%",
                estimates.mean(change("bias neurons", "perplexity", True), seed),
            ),
            Goal(
                "general neurons hurt neutral text more, by a factor of",
                "at least",
                3,
                "×",
                estimates.ratio(general, damage, seed),
            ),
            Goal(
                "runs that give the same bits once the plan is closed",
                "at least",
                1,
                "%",
                estimates.mean(same, seed),
            ),
        ),
    )
