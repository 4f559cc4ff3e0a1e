"""Explain: what makes up the logit of the specialist that answers."""

from __future__ import annotations

from ...store.records import Part
from ..voyage import Voyage


def explained(voyage: Voyage, part: Part) -> Part:
    """The part with what makes up its specialist's logit (the best candidate's, when nobody answered).

    What was explained before stays: the generate node does so while the engine is at work.
    """
    best = max(part.candidates, key=lambda one: one.p_correct, default=None)
    name = part.specialist or (best.specialist if best is not None else None)
    live = voyage.live.get(part.index)
    scout = voyage.ship.scout
    if name is None or live is None or live.reading is None or scout is None:
        return part
    if part.features and part.features[0].specialist == name:
        return part
    if name not in live.reading.p_correct:
        return part.model_copy(update={"features": ()})  # forced, without a probe
    rows = scout.explain(name, live.reading.x, voyage.ship.limits.features)
    return part.model_copy(update={"features": rows})
