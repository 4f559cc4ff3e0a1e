"""Shrink the neurons of a bias, each as far as facts and other text can spare it.

Yu and Ananiadou's gender-bias study zeroes (or shrinks) neurons that pass a logit test and a causal one, the
latter on the bias and on a general loss; its thresholds are not published. Silenced one and all, the neurons
that write a prejudice take along the facts that go through them too. Here the causal test is one fit for all
of them at once: a factor each between 0 (silenced) and 1 (left alone). A reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...router.denormals import as_zero
from ...router.locate.anatomy import Anatomy
from ...router.locate.case import Case, need
from ...router.locate.place import Place
from .edit import down_of
from .edit_kept import Kept, answers


@dataclass(frozen=True)
class Sparing:
    """How to fit the factors: optimizer steps, rate, and the weight of the divergence on facts and on other
    text against the share of the bias that is left.
    """

    steps: int = 80
    rate: float = 0.1
    keep: float = 3.0


@as_zero()
def spared(
    anatomy: Anatomy,
    places: Sequence[Place],
    cases: Sequence[Case],
    facts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    how: Sparing | None = None,
) -> list[float]:
    """Return a factor in [0, 1] for each of `places`, to be handed to `edit.scaled`: they shrink the bias of
    `cases` (with `against`), while next tokens after `facts`, and all through `texts`, stay.

    Descends bias / bias before + keep * KL(before || after) on facts + keep * KL on texts by Adam on the
    factors alone, from 1. The model is left as it was. Raises UsageError as `edit.columns_of` does, and for
    no cases.
    """
    how, model = how or Sparing(), anatomy.model
    names = [down_of(anatomy, place) for place in places]
    factors = torch.ones(len(places), requires_grad=True)

    def bias(changed: Mapping[str, Tensor]) -> Tensor:
        ours, theirs = answers(model, need(cases, "against"), changed)
        return (ours - theirs).abs().mean()

    kept = (Kept(model, facts), Kept(model, texts, whole=True))
    start = bias({}).detach().clamp_min(1e-6)
    optimizer = torch.optim.Adam([factors], lr=how.rate)
    for _ in range(how.steps):
        changed = _scaled(model, names, [place.unit for place in places], factors)
        loss = bias(changed) / start + how.keep * sum(
            (one.divergence(changed) for one in kept), torch.zeros(())
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            factors.clamp_(0, 1)
    return [float(one) for one in factors.detach()]


def _scaled(model: Any, names: Sequence[str], units: Sequence[int], factors: Tensor) -> dict[str, Tensor]:
    """The weights `names`, with each one's column `units` times its factor [N]."""
    found: dict[str, Tensor] = {}
    for name in dict.fromkeys(names):
        at = [i for i, one in enumerate(names) if one == name]
        here = torch.tensor([units[i] for i in at])
        before = model.get_parameter(name).detach()
        found[name] = before.index_add(1, here, before[:, here] * (factors[at] - 1))
    return found
