"""What a decision's page shows, as plain values: the page's own JSON twin, and what its template draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ...store.records import (
    Candidate,
    FeatureContribution,
    Generation,
    Page,
    Part,
    SteeringPlan,
    Timings,
)
from . import charts

Body = dict[str, Any]
PHASES = (
    ("read", "prefill_ms", "t1"),
    ("probe", "probe_ms", "t2"),
    ("route", "route_ms", "t3"),
    ("log", "log_ms", "t4"),
    ("write", "decode_ms", "t5"),
)
_LAYER = re.compile(r"L(\d+): ")


def body_of(page: Page) -> Body:
    """The whole page: the record as the log has it, and per part what is worked out from it."""
    return {"page": page.model_dump(mode="json"), "parts": [_part(part) for part in page.record.parts]}


def drawn(page: Page) -> list[Body]:
    """Per part, the pictures that go beside the numbers of `body_of`."""
    return [
        {
            "candidates": {
                row.specialist: charts.bar(
                    row.p_correct,
                    _threshold(part),
                    "fill" if row.specialist != _chosen(part) else "fill chosen",
                )
                for row in part.candidates
            },
            "readings": {
                row.probe: charts.bar(
                    row.probability, row.threshold, "fill fired" if row.fired else "fill quiet"
                )
                for row in part.readings
            },
            "features": _diverging(part.features),
            "attempts": [_attempt(plan, made) for plan, made in _attempts(part)],
        }
        for part in page.record.parts
    ]


def _threshold(part: Part) -> float | None:
    first = part.hops[0].decision if part.hops else part.decision
    return first.threshold if first is not None else None


def _chosen(part: Part) -> str | None:
    return part.decision.chosen if part.decision is not None else None


def _part(part: Part) -> Body:
    ranked = sorted(part.candidates, key=lambda one: (-one.utility, one.specialist))
    return {
        "index": part.index,
        "threshold": _threshold(part),
        "chosen": _chosen(part),
        "margin": margin(part),
        "candidates": [_candidate(one, _threshold(part)) for one in ranked],
        "logit": logit_of(part.features),
        "tints": tints(part),
        "phases": phases(part.generation.timings) if part.generation is not None else [],
    }


def tints(part: Part) -> list[dict[str, str]]:
    """What the tokens can be tinted by: candidates, readings, and the features that weighed most."""
    found = [
        {"kind": "specialist", "name": one.specialist, "shown": one.specialist} for one in part.candidates
    ]
    found += [{"kind": "reading", "name": one.probe, "shown": one.probe} for one in part.readings]
    for row in part.features:
        if row.feature is not None:
            layer = layer_of(row.label)
            name = f"{row.feature}" if layer is None else f"{layer}:{row.feature}"
            found.append({"kind": "feature", "name": name, "shown": f"#{row.feature} {row.label}"})
    return found


def margin(part: Part) -> float | None:
    """By how much the chosen candidate's utility exceeds the best other one's; None without two."""
    chosen = _chosen(part)
    own = [one.utility for one in part.candidates if one.specialist == chosen]
    others = [one.utility for one in part.candidates if one.specialist != chosen]
    return own[0] - max(others) if own and others else None


def _candidate(one: Candidate, threshold: float | None) -> Body:
    return one.model_dump() | {"eligible": threshold is None or one.p_correct >= threshold}


def logit_of(rows: Sequence[FeatureContribution]) -> Body | None:
    """What makes up the logit: every recorded row, their sum, and how much of it no feature explains.

    `unexplained_share` is the remainder's part of all absolute contributions. The sum is the logit itself, by
    construction of the rows; nothing here is estimated.
    """
    if not rows:
        return None
    named = sorted((row for row in rows if row.feature is not None), key=lambda row: -abs(row.contribution))
    ends = [row for row in rows if row.feature is None]
    total = math.fsum(row.contribution for row in rows)
    size = math.fsum(abs(row.contribution) for row in rows)
    rest = math.fsum(row.contribution for row in ends if row.label == "unexplained remainder")
    return {
        "specialist": rows[0].specialist,
        "rows": [_contribution(row) for row in (*named, *ends)],
        "logit": total,
        "unexplained": rest,
        "unexplained_share": abs(rest) / size if size else 0.0,
    }


def _contribution(row: FeatureContribution) -> Body:
    return row.model_dump() | {"layer": layer_of(row.label)}


def layer_of(label: str) -> int | None:
    """The layer that a label names in front (`L3: `), as labels do where a family reads several."""
    found = _LAYER.match(label)
    return int(found[1]) if found is not None else None


def _diverging(rows: Sequence[FeatureContribution]) -> list[Any]:
    body = logit_of(rows)
    if body is None:
        return []
    widest = max(abs(row["contribution"]) for row in body["rows"])
    return [charts.diverging(row["contribution"], widest) for row in body["rows"]]


def phases(timings: Timings) -> list[Body]:
    """Where a part's time went, in the order it went."""
    return [{"name": name, "ms": getattr(timings, field)} for name, field, _ in PHASES]


def time_bar(timings: Timings) -> Any:
    """The same as a picture."""
    slices = [charts.Slice(name, getattr(timings, field), tone) for name, field, tone in PHASES]
    return charts.stacked(slices, "ms")


def _attempts(part: Part) -> Iterator[tuple[SteeringPlan, Generation | None]]:
    for hop in part.hops:
        yield hop.steering, hop.generation
    yield part.steering, part.generation


def _attempt(plan: SteeringPlan, made: Generation | None) -> Body:
    """The steering timeline and the time of one attempt."""
    prompt = made.prompt_tokens if made is not None else 0
    written = made.completion_tokens if made is not None else 0
    spans = [
        charts.Span(
            entry.name,
            0 if entry.scope in ("prompt", "both") else prompt,
            prompt if entry.scope == "prompt" else prompt + written,
            entry.gate,
        )
        for entry in plan.entries
    ]
    return {
        "timeline": charts.timeline(spans, prompt, written) if spans else None,
        "time": time_bar(made.timings) if made is not None else None,
    }
