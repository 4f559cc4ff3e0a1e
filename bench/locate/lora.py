"""Does a low-rank adapter work through the neurons that comparison finds? Their coefficients, before and
after.

Base and adapted model are compared on some sums with an answer; the coefficients are looked at on other sums
with that answer, so nothing is measured on what it was chosen by. Controls: random neurons, and an adapter
fitted to shuffled answers. The source finds that an adapter on an early layer raises them more than one on
the last, so there is one of each; the neurons looked at are the last layer's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case
from ...router.locate.compare import compare_models
from ...router.locate.run import record
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell
from .arithmetic import EQUALS, PRIME, accuracy, teach, trained

RANK, BASE, STEPS, TOP, SEEN = 4, 12, 200, 10, 6
LAYERS, NEURONS = 3, 256


class _Low(nn.Module):
    """W x + B A x, A [r,in] drawn, B [out,r] from zero."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(RANK, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + x @ self.a.T @ self.b.T
        return out

    def merged(self) -> nn.Linear:
        """One matrix that does the same."""
        self.base.weight.data += self.b.data @ self.a.data
        return self.base


def adapted(model: Any, seed: int, steps: int, layer: int = 0, answers: Tensor | None = None) -> Any:
    """A copy with a low-rank adapter on one layer's attention, fitted to the sums (or other answers) and
    merged.
    """
    torch.manual_seed(seed)
    twin = copy.deepcopy(model)
    attention = twin.model.layers[layer].self_attn
    parts = {name: _Low(getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj", "o_proj")}
    for name, part in parts.items():
        setattr(attention, name, part)
    small = [one for part in parts.values() for one in (part.a, part.b)]
    teach(twin.train(), small, steps, lambda: torch.zeros(()), answers)
    for name, part in parts.items():
        setattr(attention, name, part.merged())
    return twin.eval().requires_grad_(False)


def section(seeds: Sequence[int], seed: int, quick: bool) -> Section:
    """In how many sums the found neurons' coefficients rise, and rise more than random ones'."""
    rows: dict[str, list[float]] = {}
    for s in seeds:
        base, steps = trained(s, BASE, 0.0, NEURONS, LAYERS), 20 if quick else STEPS
        wrong = torch.randint(PRIME, (PRIME**2,), generator=torch.Generator().manual_seed(s))
        twins = {
            FIRST: adapted(base, s, steps),
            LAST: adapted(base, s, steps, LAYERS - 1),
            SHUFFLED: adapted(base, s, steps, answers=wrong),
        }
        rows.setdefault("right, base", []).append(accuracy(base))
        for told in (FIRST, LAST):
            rows.setdefault(f"right, {told}", []).append(accuracy(twins[told]))
        for name, values in _changes(base, twins, s).items():
            rows.setdefault(name, []).extend(values)
    pairs = zip(rows.pop(f"growth, {FIRST}"), rows.pop(f"growth, {LAST}"), strict=True)
    rows["the first layer's adapter raises its neurons more than the last's"] = [
        float(a > b) for a, b in pairs
    ]
    del rows[f"growth, {SHUFFLED}"]
    return _table({name: estimates.mean(values, seed) for name, values in rows.items()}, len(seeds))


FIRST, LAST = "adapter on the first layer", "adapter on the last layer"
SHUFFLED = "on the first layer, shuffled answers"


def _table(found: dict[str, Estimate], count: int) -> Section:
    return Section(
        "What an adapter does to the found neurons",
        f"The base, a dense toy of {LAYERS} layers, learnt for {BASE} steps, a rank-{RANK} adapter on one "
        f"layer's attention for {STEPS} more; {count} seeds. For each answer, the {TOP} neurons of the last "
        f"layer whose importance grows most are found on {SEEN} sums, and looked at on the others. Rise: "
        "their mean |coefficient| is larger with the adapter. Sign test: the interval lies above one half. "
        "Size and steps of the base were chosen on other seeds.",
        ("measured", "mean, 95 % interval"),
        tuple((name, cell(value, "%")) for name, value in found.items()),
        (
            Goal(
                "sums whose found neurons' coefficients rise, adapter on the first layer",
                "clearly above",
                0.5,
                "%",
                found[f"found neurons rise, {FIRST}"],
            ),
            Goal(
                "sums where they rise more than random neurons'",
                "clearly above",
                0.5,
                "%",
                found[f"found rise more than random ones, {FIRST}"],
            ),
        ),
    )


def _changes(base: Any, twins: dict[str, Any], seed: int) -> dict[str, list[float]]:
    anatomy = Anatomy.of(base)
    generator = torch.Generator().manual_seed(seed)
    rows: dict[str, list[float]] = {}
    for told, twin in twins.items():
        other = Anatomy.of(twin)
        for answer in range(PRIME):
            pairs = [(a, (answer - a) % PRIME) for a in torch.randperm(PRIME, generator=generator).tolist()]
            same = [Case((a, b, EQUALS), answer) for a, b in pairs]
            gained = torch.stack([compare_models(other, anatomy, case)[0][-1] for case in same[:SEEN]]).mean(
                0
            )
            best = gained.topk(TOP).indices
            random = torch.randperm(anatomy.neurons, generator=generator)[: 4 * TOP]
            for case in same[SEEN:]:
                before, after = (record(one, case.ids).neurons[-1, -1].abs() for one in (anatomy, other))
                found, drawn = (after - before)[best].mean(), (after - before)[random].mean()
                rows.setdefault(f"found neurons rise, {told}", []).append(float(found > 0))
                rows.setdefault(f"random neurons rise, {told}", []).append(float(drawn > 0))
                rows.setdefault(f"found rise more than random ones, {told}", []).append(float(found > drawn))
                rows.setdefault(f"growth, {told}", []).append(float(after[best].mean() / before[best].mean()))
    return rows
