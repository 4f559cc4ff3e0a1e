"""In-context heads of a trained toy: what hangs on them, and two habits corrected through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import pstdev

import torch
from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.edit import Edit, edited
from ...router.locate.incontext import head_ranks, logit_minus
from ...router.locate.place import Place
from ...router.locate.run import record
from ...router.steer.incontext import Corrected, Places, choose, majority_bias
from .. import estimates
from ..page import Goal, Section, cell
from .demonstrations import HEADS, LAYERS, ORDERS, SHOWN, accuracy, asked, trained

STEPS, MAJOR = 700, 6
SHARE = 0.05  # of all heads
MAJORITY = (0.03, 0.1, 0.2, 0.4, 0.8)
RECENCY = (0.02, 0.05, 0.1, 0.2)


def section(seeds: Sequence[int], seed: int, quick: bool) -> Section:
    """Heads zeroed against random heads; majority bias and spread over orders, as they are and corrected."""
    rows: dict[str, list[float]] = {}
    for s in seeds:
        anatomy, count = Anatomy.of(trained(s, 100 if quick else STEPS)), 24 if quick else 120
        for name, value in (_seed(anatomy, s, count) | _controls(anatomy, s, count)).items():
            rows.setdefault(name, []).append(value)
    found = {name: estimates.mean(values, seed) for name, values in rows.items()}
    spread = [1 - b / a if a else 0.0 for a, b in zip(rows[SPREAD], rows[SPREAD_FIXED], strict=True)]
    pull = [1 - b / a if a else 0.0 for a, b in zip(rows[PULL], rows[PULL_FIXED], strict=True)]
    paid = [
        min(b - a for a, b in zip(pair[::2], pair[1::2], strict=True))
        for pair in zip(rows[RIGHT], rows[RIGHT_FIXED], rows[ORDERED], rows[ORDERED_FIXED], strict=True)
    ]
    return Section(
        "In-context heads",
        f"A toy of {LAYERS} layers and {LAYERS * HEADS} heads that learnt to label items from {SHOWN} "
        f"demonstrations, {len(seeds)} seeds; chance is 50 %. Found heads: the first {_count()} by both "
        f"ranks. Majority: {MAJOR} to {SHOWN - MAJOR} demonstrations, both labels asked equally often; bias "
        f"is P(commoner) - P(rarer). Order: accuracy in {len(ORDERS)} orders of the right label's "
        "demonstrations, and its standard deviation. Strengths are chosen on other prompts. The place's "
        "effect is measured, where the source trains an adapter. Size, steps and price of the toy were "
        "chosen on other seeds, after a toy that one of these seeds did not learn.",
        ("measured", "mean, 95 % interval"),
        tuple((name, cell(value, "%" if "strength" not in name else "")) for name, value in found.items()),
        (
            Goal("right with the found heads zeroed", "at most", 0.6, "%", found[ZEROED]),
            Goal(
                "right lost with as many random heads zeroed",
                "at most",
                0.05,
                "%",
                estimates.mean([a - b for a, b in zip(rows[RIGHT_EVEN], rows[RANDOM], strict=True)], seed),
            ),
            Goal(
                "label positions where a found head fetches their own label",
                "at least",
                0.9,
                "%",
                found[SIGN],
            ),
            Goal("majority bias falls by", "at least", 0.15, "%", estimates.mean(pull, seed)),
            Goal("spread over orders falls by", "at least", 0.1, "%", estimates.mean(spread, seed)),
            Goal(
                "accuracy that both corrections cost at most",
                "at least",
                -0.02,
                "%",
                estimates.mean(paid, seed),
            ),
            Goal("strength 0 gives the same bits", "at least", 1, "%", found[SAME]),
        ),
    )


RIGHT_EVEN, ZEROED, RANDOM = (
    "right, even demonstrations",
    "right, found heads zeroed",
    "right, random heads zeroed",
)
SHUFFLED, UNTRAINED = "right, heads found with shuffled labels zeroed", "right, untrained twin"
SIGN = "label positions where the best head's sign is right"
PULL, PULL_FIXED = "majority bias", "majority bias, corrected"
RIGHT, RIGHT_FIXED = "right, uneven demonstrations", "right, uneven demonstrations, corrected"
SPREAD, SPREAD_FIXED = "spread over orders", "spread over orders, corrected"
ORDERED, ORDERED_FIXED = "right, over all orders", "right, over all orders, corrected"
SAME = "strength 0 is exactly nothing"


def _count() -> int:
    return int(SHARE * LAYERS * HEADS)


def _seed(anatomy: Anatomy, seed: int, count: int) -> dict[str, float]:
    base = 1000 * seed
    order = _order(anatomy, asked(16, base + 1))
    heads = order[: _count()]
    return (
        _zeroed(anatomy, heads, order, base, count)
        | _majority(anatomy, heads, base, count)
        | _recency(anatomy, heads, base, count)
    )


def _order(anatomy: Anatomy, cases: Sequence[Case]) -> list[Place]:
    _, _, ranks = head_ranks(anatomy, cases)
    return [Place("head", *divmod(at, HEADS)) for at in ranks.flatten().argsort(descending=True).tolist()]


def _controls(anatomy: Anatomy, seed: int, count: int) -> dict[str, float]:
    """Heads found by answers that a coin drew, zeroed; and what the toy answers before training."""
    base = 1000 * seed
    cases = asked(count, base + 2)
    coin = torch.randint(2, (16,), generator=torch.Generator().manual_seed(base)).tolist()
    drawn = [
        replace(case, answer=label, against=1 - label)
        for case, label in zip(asked(16, base + 1), coin, strict=True)
    ]
    heads = _order(anatomy, drawn)[: _count()]
    return {
        SHUFFLED: accuracy(_without(anatomy, cases, heads), cases),
        UNTRAINED: accuracy(_without(Anatomy.of(trained(seed, 0)), cases, []), cases),
    }


def _zeroed(
    anatomy: Anatomy, heads: Sequence[Place], order: Sequence[Place], base: int, count: int
) -> dict[str, float]:
    cases = asked(count, base + 2)
    generator = torch.Generator().manual_seed(base)
    rest = order[len(heads) :]
    draws = [
        [rest[i] for i in torch.randperm(len(rest), generator=generator)[: len(heads)].tolist()]
        for _ in range(3)
    ]
    drawn = [accuracy(_without(anatomy, cases, some), cases) for some in draws]
    return {
        RIGHT_EVEN: accuracy(_without(anatomy, cases, []), cases),
        ZEROED: accuracy(_without(anatomy, cases, heads), cases),
        RANDOM: sum(drawn) / len(drawn),
        SIGN: _signs(anatomy, cases[:16], heads),
    }


def _without(anatomy: Anatomy, cases: Sequence[Case], heads: Sequence[Place]) -> Tensor:
    ids = torch.tensor([case.ids for case in cases])
    return edited(anatomy, ids, [[Edit(head) for head in heads]] * len(cases))


def _signs(anatomy: Anatomy, cases: Sequence[Case], heads: Sequence[Place]) -> float:
    """Share of looked-at label positions at which what the first found head fetched says that label."""
    right = total = 0
    for case in cases:
        run = record(anatomy, case.ids, weights=True)
        weights = run.weights
        assert weights is not None
        minus = logit_minus(anatomy, run, case, heads[0])
        for at in range(1, len(case.ids), 2):
            if float(weights[heads[0].layer, heads[0].unit, -1, at]) > 1 / len(case.ids):
                total += 1
                right += int((float(minus[at]) > 0) == (case.ids[at] == case.answer))
    return right / max(total, 1)


def _majority(anatomy: Anatomy, heads: Sequence[Place], base: int, count: int) -> dict[str, float]:
    valid, cases = asked(count, base + 3, MAJOR), asked(count, base + 4, MAJOR)

    def measure(strength: float) -> tuple[float, float]:
        logits = Corrected(tuple(heads), strength).logits(anatomy, valid)
        return majority_bias(logits, valid), accuracy(logits, valid)

    strength = choose(MAJORITY, measure, 0.01)
    plain = Corrected().logits(anatomy, cases)
    fixed = Corrected(tuple(heads), strength).logits(anatomy, cases)
    return {
        PULL: majority_bias(plain, cases),
        PULL_FIXED: majority_bias(fixed, cases),
        RIGHT: accuracy(plain, cases),
        RIGHT_FIXED: accuracy(fixed, cases),
        "strength of the majority correction": strength,
        SAME: float(torch.equal(Corrected(tuple(heads), 0.0).logits(anatomy, cases), plain)),
    }


def _recency(anatomy: Anatomy, heads: Sequence[Place], base: int, count: int) -> dict[str, float]:
    places = Places.fit(anatomy, asked(count, base + 5), heads)
    valid, tests = ({o: asked(count, base + at, order=o) for o in ORDERS} for at in (6, 7))

    def each(cases: dict[str, list[Case]], strength: float) -> list[float]:
        fix = Corrected(places=places, recency=strength)
        return [accuracy(fix.logits(anatomy, some), some) for some in cases.values()]

    def measure(strength: float) -> tuple[float, float]:
        rights = each(valid, strength)
        return pstdev(rights), sum(rights) / len(rights)

    strength = choose(RECENCY, measure, 0.01)
    plain, fixed = each(tests, 0.0), each(tests, strength)
    return {
        SPREAD: pstdev(plain),
        SPREAD_FIXED: pstdev(fixed),
        ORDERED: sum(plain) / len(plain),
        ORDERED_FIXED: sum(fixed) / len(fixed),
        "strength of the recency correction": strength,
    }
