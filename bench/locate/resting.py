"""Attention sinks where they must arise: found in the trained toy and not before training; what clamps leave.

All clamps act on position 0 after the first of three layers, and what is left is read in the later two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.sinks import CLAMPS, clamped, fair_share, norm_ratios, sink_scores
from .. import estimates
from ..page import Goal, Section, cell
from .backcopy import STEPS, TRIGGERS, Bigrams, copies, trained, untrained

SINK, AFTER = 0.3, 0  # a head's score from which it is a sink; the layer behind which is clamped
SHARE, SHARE_BEFORE = "share of heads that are sinks", "share of heads that are sinks, untrained"
OTHER = "share of heads that are sinks, another first token"


def section(seeds: Sequence[int], seed: int, quick: bool) -> Section:
    """Sink heads before and after training, and what each clamp takes of them."""
    rows: dict[str, list[float]] = {}
    for s in seeds:
        for name, value in _seed(s, 100 if quick else STEPS, 12).items():
            rows.setdefault(name, []).append(value)
    found = {name: estimates.mean(values, seed) for name, values in rows.items()}
    return Section(
        "Attention sinks of a toy that needs them",
        f"A toy that learnt bigrams and to repeat a token after {TRIGGERS} triggers, {len(seeds)} seeds; a "
        f"sink is a head with a score above {SINK}. Excess: sink score over the fair share, in the layers "
        f"after layer {AFTER}, where position 0 is clamped. Clamping the norm only scales the state, and "
        "the next RMSNorm undoes that exactly: it can take something away only where later layers then turn "
        "the state, which these do not. The clamp of the direction (ours) takes away what is read; the "
        "control moves the state as far along a drawn axis. The toy's size was chosen on a single run, in "
        "another language.",
        ("measured", "mean, 95 % interval"),
        tuple((name, cell(value, "" if "ratio" in name else "%")) for name, value in found.items()),
        (
            Goal("share of the toy's heads that are sinks", "at least", 0.25, "%", found[SHARE]),
            Goal("share of sink heads before training", "at most", 0.0, "%", found[SHARE_BEFORE]),
            *(
                Goal(f"excess removed by the {told}", "at least", 0.5, "%", found[_removed(how)])
                for how, told in (("norm", "norm clamp"), ("direction", "clamp of the sink's direction"))
            ),
        ),
    )


def _removed(how: str) -> str:
    return f"excess removed by the clamp: {how}"


def _seed(seed: int, steps: int, count: int) -> dict[str, float]:
    language = Bigrams(seed)
    model, twin = trained(seed, language, steps), Anatomy.of(untrained(seed))
    anatomy, cases = Anatomy.of(model), language.cases(count)
    fair, scores = fair_share(cases), sink_scores(anatomy, cases)
    told = {
        "triggers after which the token is repeated": copies(model, language),
        SHARE: _share(scores),
        SHARE_BEFORE: _share(sink_scores(twin, cases)),
        OTHER: _share(sink_scores(anatomy, _started_otherwise(cases))),
        "norm ratio of position 0": float(norm_ratios(anatomy, cases).max()),
    }
    for how in CLAMPS:
        with clamped(anatomy, AFTER, how):
            told[_removed(how)] = removed(scores, sink_scores(anatomy, cases), fair)
    return told


def _share(scores: Tensor) -> float:
    return float((scores > SINK).float().mean())


def _started_otherwise(cases: Sequence[Case]) -> list[Case]:
    """The same prompts with their third token in place of the start token."""
    return [replace(case, ids=(case.ids[2], *case.ids[1:])) for case in cases]


def removed(before: Tensor, after: Tensor, fair: float) -> float:
    """Share of the excess [L,H] over `fair` that is gone in the layers after the clamp; 0 if none was."""
    excess, left = (float((one[AFTER + 1 :] - fair).clamp_min(0).sum()) for one in (before, after))
    return 1 - left / excess if excess > 0 else 0.0
