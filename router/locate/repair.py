"""Repair a two-hop prompt one stage at a time: put the right state where a stage leaves it, and see whether
the answer comes back.

Three sites take the state from a donor, a prompt that is answered right: `first hop` the bridge, at the layer
from which it leads; `carrying` what attention writes at the last token, in every layer; `second hop` the last
token's state that says the answer most surely, before the last layer. What lies behind the stage that fails
comes right as well, so the earliest site that restores counts. `readout` needs no donor: the prompt's own
state that says the answer most surely stands in for its last one. So does `late` (back-patching, Biran et
al., 'Hopping Too Late', 2024): the bridge's own state of a later layer is put into the earlier ones, which
restores what was resolved only after the layers that carry it. The sites are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...store.errors import UsageError
from .anatomy import Anatomy
from .case import Case
from .edit import Edit, edited
from .hops import HOPS, NONE, Hops, Rivals, check_hops, hops_of, run_of
from .place import Place
from .run import Run

LATE = "late"


@dataclass(frozen=True, eq=False)
class Traced:
    """A case with its run and what it says of both hops."""

    case: Case
    run: Run
    hops: Hops


@dataclass(frozen=True)
class Repairs:
    """Which sites restored the answer (None: no donor), by stage, and `late`; and which stage was named."""

    named: str
    restored: dict[str, bool | None]

    @property
    def verdict(self) -> str:
        """The stage that patching points to: readout or carrying where the prompt's own states restore (the
        latter by `late`), else the earliest that does; empty where none does.
        """
        order = (HOPS[3], LATE, *HOPS[:3])
        found = next((name for name in order if self.restored[name]), "")
        return HOPS[1] if found == LATE else found

    @property
    def elsewhere(self) -> list[bool]:
        """Whether sites restored that should not: those before the named one, and the own last states."""
        at = HOPS.index(self.named)
        tried = (self.restored[site] for site in (*HOPS[:at], *(HOPS[3:] if at < 3 else ())))
        return [value for value in tried if value is not None]

    @property
    def later(self) -> list[bool]:
        """Whether donors' sites behind the named one restored, as by nature they do."""
        tried = (self.restored[site] for site in HOPS[HOPS.index(self.named) + 1 : 3])
        return [value for value in tried if value is not None]

    @property
    def confirmed(self) -> bool:
        """Whether the named stage's site restores, and no site before it."""
        return self.verdict == self.named


def traced(
    anatomy: Anatomy, cases: Sequence[Case], rivals: Rivals | None = None, under: Sequence[Edit] = ()
) -> list[Traced]:
    """Follow each case over both hops, while the edits `under` hold. Raises UsageError as `check_hops`, and
    for a model of one layer, in which nothing can be put in before the last.
    """
    if anatomy.layers < 2:
        raise UsageError("this model has one layer, and two hops need two; give a deeper model")
    against = rivals or Rivals.of(cases, anatomy.unembed.shape[1])
    runs = [(case, run_of(anatomy, case, under)) for case in check_hops(cases)]
    return [Traced(case, run, hops_of(anatomy, run, case, against)) for case, run in runs]


def repair(anatomy: Anatomy, one: Traced, donors: Sequence[Traced], under: Sequence[Edit] = ()) -> Repairs:
    """Patch each site of a case that fails, with donors among `donors`; `under` holds beneath the patches."""
    bridged, answered = _donor(one, donors, True), _donor(one, donors, False)
    patches = {
        HOPS[0]: bridged and _bridge_state(one, bridged),
        HOPS[1]: bridged and _fetched(anatomy, one, bridged),
        HOPS[2]: answered and _answer_state(one, answered),
        HOPS[3]: _own_answer(one),
    }
    tried = {name: [patch] for name, patch in patches.items() if patch} | {LATE: _own_bridge(one)}
    ids = torch.tensor(one.case.ids)
    right = {
        name: bool(some)
        and bool((edited(anatomy, ids, [[*under, *p] for p in some]).argmax(-1) == one.case.answer).any())
        for name, some in tried.items()
    }
    return Repairs(one.hops.stage, {name: right.get(name) for name in (*HOPS, LATE)})


def repairs(anatomy: Anatomy, found: Sequence[Traced]) -> list[Repairs]:
    """Repair every case of `found` that fails, with donors among the others."""
    return [repair(anatomy, one, found) for one in found if one.hops.stage != NONE]


def _donor(one: Traced, donors: Sequence[Traced], bridge: bool) -> Traced | None:
    """A case that is answered right, has the same bridge (or answer), and is otherwise as alike as can be."""
    mine = one.case

    def fits(other: Traced) -> bool:
        case = other.case
        same = case.bridge == mine.bridge if bridge else case.answer == mine.answer
        led = other.hops.first_layer >= 0 if bridge else other.hops.retrieved
        return other is not one and other.hops.stage == NONE and same and led and case.ids != mine.ids

    def distance(other: Traced) -> tuple[bool, bool, int]:
        case = other.case
        differs = (case.answer != mine.answer, case.bridge != mine.bridge)
        return (*differs, abs(len(case.ids) - len(mine.ids)))

    return min(filter(fits, donors), key=distance, default=None)


def _bridge_state(one: Traced, donor: Traced) -> list[Edit]:
    """The donor's bridge, as far behind the subject's end as it stands there."""
    assert one.case.subject is not None
    assert donor.case.subject is not None
    layer, there = donor.hops.first_layer, donor.hops.place[1]
    last = len(one.case.ids) - 1
    here = min(max(one.case.subject[1] + there - donor.case.subject[1], one.case.subject[0]), last - 1)
    return [Edit(Place("residual", layer, -1, here), 0.0, donor.run.stream[layer + 1, there])]


def _fetched(anatomy: Anatomy, one: Traced, donor: Traced) -> list[Edit]:
    last = len(one.case.ids) - 1
    return [
        Edit(Place("attention", layer, -1, last), 0.0, donor.run.attention[layer, -1])
        for layer in range(anatomy.layers)
    ]


def _answer_state(one: Traced, donor: Traced) -> list[Edit]:
    """The donor's state of the last token that says the answer most surely, before the last layer."""
    best = _surest(donor)
    place = Place("residual", best, -1, len(one.case.ids) - 1)
    return [Edit(place, 0.0, donor.run.stream[best + 1, -1])]


def _own_answer(one: Traced) -> list[Edit]:
    """Skip the layers behind the state of the last token that says the answer most surely."""
    place = Place("residual", len(one.hops.answer) - 2, -1, len(one.case.ids) - 1)
    return [Edit(place, 0.0, one.run.stream[_surest(one) + 1, -1])]


def _surest(one: Traced) -> int:
    """The layer, but for the last one, after which the last token says the answer most surely."""
    return int(one.hops.answer[1:-1].argmax())


def _own_bridge(one: Traced) -> list[list[Edit]]:
    """The surest state of the bridge, in place of each earlier one at its position."""
    layer, at = one.hops.place
    state = one.run.stream[layer + 1, at]
    return [[Edit(Place("residual", below, -1, at), 0.0, state)] for below in range(layer)]
