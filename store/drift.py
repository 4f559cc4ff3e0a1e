"""Has the traffic changed? The newest records are compared with those before them, one quantity at a time.

Numbers (what probes said, P(correct), lengths) by the two-sample Kolmogorov-Smirnov test; shares (who
answered, how a record ended, which readings fired) by a two-proportion z-test. An alarm needs both: surprise,
corrected for the many quantities (Holm, 1979), and a difference large enough to matter. Traffic of one
conversation is not independent, so each conversation is counted once, by its first record in each period.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import NormalDist, fmean

from .errors import UsageError
from .records import Frozen, Page

FEWEST = 50  # conversations in each period
SURPRISE = 0.01  # corrected p-value below which a difference is no accident
MATTERS = 0.1  # KS distance, or difference of shares, that is worth an alarm


class Change(Frozen):
    """One quantity then and now: means or shares; `distance` is the KS distance, or the difference of shares.

    `p_value` is corrected for all quantities that were looked at.
    """

    quantity: str
    then: float
    now: float
    distance: float
    p_value: float
    alarm: bool


class Drift(Frozen):
    """Everything that was compared, the most surprising first. `then` and `now` count conversations."""

    then: int
    now: int
    changes: tuple[Change, ...]

    @property
    def alarms(self) -> tuple[Change, ...]:
        """The changes that are both surprising and large."""
        return tuple(one for one in self.changes if one.alarm)


class _Period:
    """What the conversations of a period gave, quantity by quantity."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self.numbers: dict[str, list[float]] = defaultdict(list)
        self.yes: dict[str, int] = defaultdict(int)
        self.size = 0
        seen: set[str] = set()
        for page in pages:
            if page.record.thread_id not in seen:
                seen.add(page.record.thread_id)
                self._add(page)
                self.size += 1

    def _add(self, page: Page) -> None:
        record = page.record
        self.yes[f"ended as {record.status}"] += 1
        for part in record.parts[:1]:
            self.yes[f"answered by {part.specialist or 'nobody'}"] += 1
            self.yes["escalated"] += bool(part.hops)
            for reading in part.readings:
                self.numbers[f"score of {reading.probe}"].append(reading.score)
                self.yes[f"{reading.probe} fired"] += reading.fired
            for candidate in part.candidates:
                self.numbers[f"P(correct) of {candidate.specialist}"].append(candidate.p_correct)
            if part.generation is not None:
                self.numbers["prompt tokens"].append(part.generation.prompt_tokens)
                if part.generation.mean_logprob is not None:
                    self.numbers["mean log-probability"].append(part.generation.mean_logprob)
        self._outcomes(page)

    def _outcomes(self, page: Page) -> None:
        """How far the outcomes fall short of what was promised: a drift of the calibration."""
        scores = [one.score for one in page.outcomes if one.score is not None and 0 <= one.score <= 1]
        part = page.record.parts[0] if page.record.parts else None
        if part is None or not scores:
            return
        belief = next((c.p_correct for c in part.candidates if c.specialist == part.specialist), None)
        if belief is not None:
            self.numbers["outcome less P(correct)"].append(fmean(scores) - belief)


def drift(then: Iterable[Page], now: Iterable[Page]) -> Drift:
    """Compare two periods of one log. Raises UsageError when either has too few conversations."""
    before, after = _Period(then), _Period(now)
    for what, period in (("reference", before), ("newest", after)):
        if period.size < FEWEST:
            raise UsageError(
                f"the {what} period has {period.size} conversations; {FEWEST} are needed: choose a longer one"
            )
    found = [*_numbers(before, after), *_shares(before, after)]
    return Drift(then=before.size, now=after.size, changes=_corrected(found))


def _numbers(before: _Period, after: _Period) -> Iterable[Change]:
    for name in before.numbers.keys() & after.numbers.keys():
        x, y = before.numbers[name], after.numbers[name]
        if min(len(x), len(y)) >= FEWEST:
            distance = ks_distance(x, y)
            yield _change(name, fmean(x), fmean(y), distance, ks_p_value(distance, len(x), len(y)))


def _shares(before: _Period, after: _Period) -> Iterable[Change]:
    for name in before.yes.keys() | after.yes.keys():
        x, y = before.yes[name] / before.size, after.yes[name] / after.size
        yield _change(name, x, y, abs(x - y), _share_p_value(before, after, name))


def _change(name: str, then: float, now: float, distance: float, p_value: float) -> Change:
    return Change(quantity=name, then=then, now=now, distance=distance, p_value=p_value, alarm=False)


def _corrected(found: Sequence[Change]) -> tuple[Change, ...]:
    """Holm's step-down correction over all quantities; then the alarms."""
    worst, done = 0.0, []
    for place, one in enumerate(sorted(found, key=lambda change: (change.p_value, change.quantity))):
        worst = max(worst, min(1.0, one.p_value * (len(found) - place)))
        alarm = worst < SURPRISE and one.distance >= MATTERS
        done.append(one.model_copy(update={"p_value": worst, "alarm": alarm}))
    return tuple(done)


def ks_distance(x: Sequence[float], y: Sequence[float]) -> float:
    """The largest gap between the two empirical distribution functions."""
    a, b = sorted(x), sorted(y)
    i = j = 0
    gap = 0.0
    while i < len(a) and j < len(b):
        value = min(a[i], b[j])
        while i < len(a) and a[i] == value:
            i += 1
        while j < len(b) and b[j] == value:
            j += 1
        gap = max(gap, abs(i / len(a) - j / len(b)))
    return gap


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Chance of so large a gap between samples of n and m from one distribution (Kolmogorov's series, with
    Stephens' small-sample term, 1970). Ties make it too large, never too small.
    """
    root = math.sqrt(n * m / (n + m))
    z = (root + 0.12 + 0.11 / root) * distance
    if z < 0.2:
        return 1.0
    terms = ((1.0 if k % 2 else -1.0) * math.exp(-2 * k * k * z * z) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * sum(terms)))


def _share_p_value(before: _Period, after: _Period, name: str) -> float:
    n, m = before.size, after.size
    pooled = (before.yes[name] + after.yes[name]) / (n + m)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if spread == 0:
        return 1.0
    z = abs(before.yes[name] / n - after.yes[name] / m) / spread
    return 2 * (1 - NormalDist().cdf(z))
