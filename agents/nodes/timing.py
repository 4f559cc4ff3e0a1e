"""Add to where a part's time went."""

from __future__ import annotations

from ...store.records import Part, Timings


def timed(part: Part, **spent: float) -> Part:
    """Return the part with milliseconds added to its timings; `total_ms` grows by their sum."""
    assert part.generation is not None, "the probe node fills it first"
    old = part.generation.timings
    new = {name: getattr(old, name) + extra for name, extra in spent.items()}
    timings = old.model_copy(update=new)
    total = sum(getattr(timings, name) for name in Timings.model_fields if name != "total_ms")
    timings = timings.model_copy(update={"total_ms": total})
    return part.model_copy(update={"generation": part.generation.model_copy(update={"timings": timings})})
