"""The overview: volume, shares, abstentions, calibration against outcomes, drift of readings, latency.

Counts cover everything that fits. What needs the records themselves is taken from samples, whose sizes are
told.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from ...store import overview
from ...store.audit import Audit, Filter
from ...store.reading import pages as read_pages
from ...store.records import Page
from . import charts

Body = dict[str, Any]
SAMPLE = 400  # records at each end of the time shown, for drift
SCORED = 1000  # outcomes for the calibration plot
TIMED = 20_000  # newest completed records for latencies
BINS = 10
PERCENTILES = (50, 95, 99)
TONES = {50: "t1", 95: "t3", 99: "t5"}
STATUSES = ("completed", "abstained", "failed", "aborted", "in_progress")
CRITICAL = 1.628  # Kolmogorov-Smirnov at the level 0.01: one false alarm in a hundred readings


def overview_of(audit: Audit, wanted: Filter) -> Body:
    """All numbers of the page."""
    with audit.reading() as connection:
        span = overview.reach(connection, wanted)
        head = _head(span)
        bars = overview.volume(connection, wanted, head)
        teams = overview.teams(connection, wanted)
        timed = overview.latencies(connection, wanted, head, TIMED)
        judged = _pages(connection, overview.scored(connection, wanted, SCORED))
        # no record may stand on both sides
        side = min(SAMPLE, sum(bar.count for bar in bars) // 2)
        before, after = (
            _pages(connection, overview.edge(connection, wanted, side, oldest=oldest))
            for oldest in (True, False)
        )
    totals = {status: sum(bar.count for bar in bars if bar.status == status) for status in STATUSES}
    return {
        "first": span[0] if span else None,
        "last": span[1] if span else None,
        "records": sum(totals.values()),
        "statuses_of": totals,
        "abstained": share(totals["abstained"], totals["abstained"] + totals["completed"]),
        "volume": [bar.model_dump() for bar in bars],
        "teams": [team.model_dump() for team in teams],
        "latency": _latency(timed),
        "calibration": calibration(judged),
        "drift": drift(before, after),
    }


def _pages(connection: Connection, names: Sequence[str]) -> list[Page]:
    return [
        page
        for start in range(0, len(names), 200)
        for page in read_pages(connection, names[start : start + 200])
    ]


def _head(span: tuple[str, str] | None) -> int:
    """Minutes for two hours, hours for four days, else days."""
    if span is None:
        return overview.HEADS["day"]
    first, last = (datetime.fromisoformat(text) for text in span)
    hours = (last - first).total_seconds() / 3600
    return overview.HEADS["minute" if hours <= 2 else "hour" if hours <= 96 else "day"]


def share(count: int, total: int) -> Body:
    """A share with its 95 % interval (Wilson, 1927)."""
    if not total:
        return {"count": count, "total": 0, "share": None, "low": None, "high": None}
    z, p = 1.96, count / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return {
        "count": count,
        "total": total,
        "share": p,
        "low": max(0.0, middle - half),
        "high": min(1.0, middle + half),
    }


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least so many per cent do not exceed; `ordered` rises."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else None


def _latency(timed: Iterable[tuple[str, float]]) -> Body:
    groups: dict[str, list[float]] = defaultdict(list)
    every: list[float] = []
    for start, ms in timed:
        groups[start].append(ms)
        every.append(ms)
    rows = [{"start": start, **_percentiles(groups[start])} for start in sorted(groups)]
    return {"count": len(every), **_percentiles(every), "rows": rows}


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(values)
    return {f"p{percent}": percentile(ordered, percent) for percent in PERCENTILES}


def calibration(judged: Sequence[Page]) -> Body:
    """Beliefs against results: records of one part, answered at the first attempt, with a score in 0 to 1."""
    pairs = [pair for page in judged if (pair := _judged(page)) is not None]
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for belief, score in pairs:
        bins[min(BINS - 1, int(belief * BINS))].append((belief, score))
    rows = []
    for place in sorted(bins):
        group = bins[place]
        right = sum(score for _, score in group)
        rows.append(
            {
                "belief": sum(p for p, _ in group) / len(group),
                **share(round(right), len(group)),
                "right": right,
            }
        )
    gaps = sum(abs(row["right"] - row["belief"] * row["total"]) for row in rows)
    return {
        "records": len(pairs),
        "bins": rows,
        "error": gaps / len(pairs) if pairs else None,
        "brier": sum((p - score) ** 2 for p, score in pairs) / len(pairs) if pairs else None,
    }


def _judged(page: Page) -> tuple[float, float] | None:
    scores = [one.score for one in page.outcomes if one.score is not None]
    parts = page.record.parts
    if len(parts) != 1 or parts[0].hops or not scores or not all(0.0 <= score <= 1.0 for score in scores):
        return None
    beliefs = {one.specialist: one.p_correct for one in parts[0].candidates}
    belief = beliefs.get(parts[0].specialist or "")
    return (belief, sum(scores) / len(scores)) if belief is not None else None


def drift(before: Sequence[Page], after: Sequence[Page]) -> list[Body]:
    """Per reading, its distribution at the start and at the end of the time shown.

    `distance` is the Kolmogorov-Smirnov statistic; `moved` when it exceeds its bound at the level 0.01.
    """
    old, new = _readings(before), _readings(after)
    rows = []
    for name in sorted(old.keys() & new.keys()):
        one, two = sorted(old[name]), sorted(new[name])
        distance, bound = (
            separation(one, two),
            CRITICAL * math.sqrt((len(one) + len(two)) / (len(one) * len(two))),
        )
        rows.append(
            {
                "reading": name,
                "before": sum(one) / len(one),
                "after": sum(two) / len(two),
                "records": [len(one), len(two)],
                "distance": distance,
                "bound": bound,
                "moved": distance > bound,
            }
        )
    return rows


def _readings(found: Iterable[Page]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for page in found:
        for part in page.record.parts:
            for reading in part.readings:
                values[reading.probe].append(reading.probability)
    return values


def separation(one: Sequence[float], two: Sequence[float]) -> float:
    """The widest gap between two empirical distributions; both rise."""
    return max(
        abs(bisect.bisect_right(one, value) / len(one) - bisect.bisect_right(two, value) / len(two))
        for value in {*one, *two}
    )


# -- pictures ----------------------------------------------------------------------------------------------


def drawn(body: Body) -> Body:
    """The page's pictures."""
    starts = list(dict.fromkeys(bar["start"] for bar in body["volume"]))
    stacks: dict[str, list[charts.Slice]] = {start: [] for start in starts}
    for bar in body["volume"]:
        stacks[bar["start"]].append(charts.Slice(bar["status"], bar["count"], bar["status"]))
    latency = body["latency"]["rows"]
    points = [
        charts.Point(row["belief"], row["right"] / row["total"], row["low"], row["high"], row["total"])
        for row in body["calibration"]["bins"]
    ]
    top = max((team["count"] for team in body["teams"]), default=1)
    return {
        "volume": charts.columns(
            starts, list(stacks.values()), f"{body['records']} records over time, by status"
        ),
        "latency": charts.lines(
            [row["start"] for row in latency],
            [(f"p{p}", TONES[p], [row[f"p{p}"] for row in latency]) for p in PERCENTILES],
            "latency percentiles over time, in milliseconds",
        ),
        "calibration": charts.reliability(points, "results against believed P(correct)"),
        "teams": [charts.bar(team["count"] / top) for team in body["teams"]],
    }
