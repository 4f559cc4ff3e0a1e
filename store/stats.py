"""Counts over the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .records import Count, Frozen, Page, Part, Probability


class SpecialistStats(Frozen):
    """One specialist's share. `mean_score` averages the outcomes that carry a score."""

    specialist: str
    answers: Count
    forced: Count
    steered: Count
    escalated_from: Count
    completion_tokens: Count
    mean_p_correct: Probability | None
    mean_score: float | None


class Stats(Frozen):
    """What the log holds. Latencies are milliseconds over the records that were completed."""

    records: Count
    statuses: dict[str, int]
    threads: Count
    first: str | None
    last: str | None
    multi_part: Count
    outcomes: Count
    erased: Count
    total_ms_p50: float | None
    total_ms_p95: float | None
    specialists: tuple[SpecialistStats, ...]
    bytes: Count


class _Tally:
    """What is summed up for one specialist."""

    def __init__(self) -> None:
        self.answers = self.forced = self.steered = self.escalated = self.tokens = 0
        self.beliefs: list[float] = []
        self.scores: list[float] = []

    def add(self, part: Part, scores: Sequence[float]) -> None:
        self.answers += 1
        self.forced += part.decision is not None and part.decision.forced
        self.steered += bool(part.steering.entries)
        self.tokens += part.generation.completion_tokens if part.generation else 0
        self.beliefs += [c.p_correct for c in part.candidates if c.specialist == part.specialist]
        self.scores += scores

    def told(self, name: str) -> SpecialistStats:
        return SpecialistStats(
            specialist=name,
            answers=self.answers,
            forced=self.forced,
            steered=self.steered,
            escalated_from=self.escalated,
            completion_tokens=self.tokens,
            mean_p_correct=_mean(self.beliefs),
            mean_score=_mean(self.scores),
        )


def count(pages: Iterable[Page], size: int) -> Stats:
    """Sum up `pages`, which come oldest first; `size` is the log's size in bytes."""
    statuses: dict[str, int] = {}
    tallies: dict[str, _Tally] = {}
    latencies: list[float] = []
    threads: set[str] = set()
    first = last = None
    multi = outcomes = erased = 0
    for page in pages:
        record = page.record
        statuses[record.status] = statuses.get(record.status, 0) + 1
        threads.add(record.thread_id)
        first, last = first or record.created_at, record.created_at
        multi += len(record.parts) > 1
        outcomes += len(page.outcomes)
        erased += page.erased_at is not None
        if record.status == "completed":
            latencies.append(record.total_ms)
        _tally(page, tallies)
    return Stats(
        records=sum(statuses.values()),
        statuses=dict(sorted(statuses.items())),
        threads=len(threads),
        first=first,
        last=last,
        multi_part=multi,
        outcomes=outcomes,
        erased=erased,
        total_ms_p50=_quantile(latencies, 0.50),
        total_ms_p95=_quantile(latencies, 0.95),
        specialists=tuple(tallies[name].told(name) for name in sorted(tallies)),
        bytes=size,
    )


def _tally(page: Page, tallies: dict[str, _Tally]) -> None:
    scores = [outcome.score for outcome in page.outcomes if outcome.score is not None]
    for part in page.record.parts:
        if part.specialist is not None:
            tallies.setdefault(part.specialist, _Tally()).add(part, scores)
        for hop in part.hops:
            if hop.decision.chosen is not None:
                tallies.setdefault(hop.decision.chosen, _Tally()).escalated += 1


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
