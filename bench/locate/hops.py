"""Two hops: whether the named stage is the one that was broken, and whether patching there brings the answer
back.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.flow import flow_of
from ...router.locate.hops import HOPS, NONE, Rivals
from ...router.locate.repair import LATE, Repairs, Traced, repair, traced
from ...router.locate.trace import trace
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell
from .entities import BREAKS, UNTAUGHT, VOCABULARY, Facts, trained, untrained
from .planted import FACTS, bridged, planted_hops

BROKEN, TRACED = 32, 8  # prompts of a seed that each break is tried on; that are traced
Rows = dict[str, list[float]]


class Failure(NamedTuple):
    """A prompt that fails because `planted` was broken."""

    planted: str
    one: Traced
    repaired: Repairs


def failures(
    anatomy: Anatomy, prompts: Sequence[tuple[Case, str]], seed: int, broken: int = BROKEN
) -> tuple[list[Traced], list[Failure]]:
    """Return the prompts that nothing was done to, and those that were broken and fail: by a fact that was
    never taught, as `prompts` say, and up to `broken` others by each of `BREAKS`.
    """
    rivals = Rivals.of([case for case, _ in prompts], VOCABULARY)
    whole = traced(anatomy, [case for case, _ in prompts], rivals)
    found = [
        Failure(stage, one, repair(anatomy, one, whole))
        for one, (_, stage) in zip(whole, prompts, strict=True)
        if stage != NONE and not one.hops.right
    ]
    unbroken = [one for one, (_, stage) in zip(whole, prompts, strict=True) if stage == NONE]
    for stage, how in BREAKS.items():
        for one in random.Random(f"{stage}/{seed}").sample(unbroken, min(broken, len(unbroken))):
            edits = how(anatomy, one.case)
            (hurt,) = traced(anatomy, [one.case], rivals, edits)
            if not hurt.hops.right:
                found.append(Failure(stage, hurt, repair(anatomy, hurt, whole, edits)))
    return unbroken, found


def section(seeds: Sequence[int], seed: int, quick: bool) -> Section:
    """Named and planted stages, patching, controls; see the text of the page."""
    rows: Rows = {}
    for s in seeds:
        facts = Facts(s)
        broken = 8 if quick else BROKEN
        _toy(rows, Anatomy.of(trained(s, facts)), facts, s, broken)
        _blank(rows, Anatomy.of(untrained(s + 100)), facts, s, broken)
        _late(rows, s)
    found = {name: estimates.mean(values, seed) for name, values in rows.items()}
    return Section(
        "Two hops",
        "A toy of 3 layers, each token of which sees itself and the one before, learnt facts that lead from "
        "an entity to a bridge or from a bridge to an answer, and their compositions "
        f"({len(seeds)} seeds); {sum(UNTAUGHT)} more facts were never taught. Prompts fail at the first or "
        "second hop where they need one of those, at carrying where what attention writes at the last token "
        "is zeroed, at readout where the last layer speaks against the answer. The stage is named from one "
        "run; then the right state is patched in at each stage's site. Sites behind the one that fails "
        "restore as well, by nature; those before it, and the prompt's own states, must not. A prompt "
        "answered right has no failing stage, by definition. Late: wired facts whose bridge comes one layer "
        "after the head that carries it, where they fail; the bridge's own later state is put into earlier "
        "layers. Settings were chosen on seeds 10 to 12.",
        ("measured", "mean, 95 % interval"),
        tuple((name, cell(value, "%")) for name, value in found.items()),
        _goals(found),
    )


def _toy(rows: Rows, anatomy: Anatomy, facts: Facts, seed: int, broken: int) -> None:
    unbroken, failed = failures(anatomy, facts.prompts(), seed, broken)
    _add(rows, "unbroken prompts for which no stage is named", [one.hops.stage == NONE for one in unbroken])
    _add(rows, "failing prompts whose named stage is the planted one", map(_named, failed))
    for stage in HOPS:
        some = [_named(one) for one in failed if one.planted == stage]
        _add(rows, f"the same, broken at {stage}", some)
    order = [one.planted for one in failed]
    random.Random(f"shuffled/{seed}").shuffle(order)
    alike = [one.one.hops.stage == stage for one, stage in zip(failed, order, strict=True)]
    _add(rows, "the same, planted stages shuffled", alike)
    _patching(rows, failed)
    for one in unbroken[:: len(unbroken) // TRACED][:TRACED]:
        flows = {"one hop back": flow_of(anatomy, one.case), "recursively": trace(anatomy, one.case)}
        for name, flow in flows.items():
            both = (flow.attention + flow.mlp).clamp_min(0).sum(0)
            _add(rows, f"importance traced to the entity, {name}", [both[0] / both.sum()])


def _patching(rows: Rows, failed: Sequence[Failure]) -> None:
    every = [one.repaired for one in failed]
    named = [value for one in every if (value := one.restored[one.named]) is not None]
    _add(rows, "restored at the named stage's site", named)
    for one in every:
        _add(rows, "restored at sites before it, or by own states", one.elsewhere)
        _add(rows, "restored at later sites, as by nature", one.later)
    _add(rows, "failing prompts whose stage patching confirms", [one.confirmed for one in every])
    _add(rows, "restored by the bridge's own later state", [bool(one.restored[LATE]) for one in every])


def _named(failure: Failure) -> bool:
    return failure.one.hops.stage == failure.planted


def _blank(rows: Rows, anatomy: Anatomy, facts: Facts, seed: int, broken: int) -> None:
    """The same prompts and breaks in a model that learnt nothing."""
    _, failed = failures(anatomy, facts.prompts(), seed, broken)
    _add(rows, "the same, a model that learnt nothing", map(_named, failed))


def _late(rows: Rows, seed: int) -> None:
    """Half of the wired facts are late."""
    late = range(0, FACTS, 2)
    planted = planted_hops(seed, late)
    anatomy = Anatomy.of(planted.model)
    found = traced(anatomy, [bridged(case) for case in planted.cases(seed)])
    some = [found[fact] for fact in late if not found[fact].hops.right]
    _add(rows, "late facts for which carrying is named", [one.hops.stage == HOPS[1] for one in some])
    back = [bool(repair(anatomy, one, found).restored[LATE]) for one in some]
    _add(rows, "late facts restored by the bridge's own later state", back)


def _add(rows: Rows, name: str, values: Iterable[float | Tensor]) -> None:
    rows.setdefault(name, []).extend(map(float, values))


def _goals(found: dict[str, Estimate]) -> tuple[Goal, ...]:
    chance = 0.4  # four stages, of unequal numbers
    return (
        Goal(
            "two hops: the named stage is the planted one",
            "at least",
            0.9,
            "%",
            found["failing prompts whose named stage is the planted one"],
        ),
        Goal(
            "two hops: no stage is named for unbroken prompts",
            "at least",
            0.95,
            "%",
            found["unbroken prompts for which no stage is named"],
        ),
        Goal(
            "two hops: the same, planted stages shuffled",
            "at most",
            chance,
            "%",
            found["the same, planted stages shuffled"],
        ),
        Goal(
            "two hops: the same, a model that learnt nothing",
            "at most",
            chance,
            "%",
            found["the same, a model that learnt nothing"],
        ),
        Goal(
            "two hops: patching at the named stage's site restores",
            "at least",
            0.8,
            "%",
            found["restored at the named stage's site"],
        ),
        Goal(
            "two hops: patching at others restores",
            "at most",
            0.1,
            "%",
            found["restored at sites before it, or by own states"],
        ),
        Goal(
            "two hops: late facts restored by their own later state",
            "at least",
            0.9,
            "%",
            found["late facts restored by the bridge's own later state"],
        ),
    )
