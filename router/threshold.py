"""Set the abstention threshold for a stated risk. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from ..store.errors import UsageError

GRID = tuple(i / 100 for i in range(99, -1, -1))
STARTS = (1, 2, 4, 8)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) for X ~ Binomial(n, p)."""
    if k >= n or p <= 0.0:
        return 1.0
    if p >= 1.0 or k < 0:
        return 0.0
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(logs + k * math.log(p) + (n - k) * math.log1p(-p))
    if k > n * p:  # sum the shorter, falling tail and take it from 1
        return 1.0 - _upper_tail(term, k, n, p)
    total = 0.0
    for i in range(k, -1, -1):
        total += term
        if term < 1e-18 * total:
            break
        term *= i / (n - i + 1) * (1 - p) / p
    return min(total, 1.0)


def _upper_tail(term: float, k: int, n: int, p: float) -> float:
    total = 0.0
    for i in range(k, n):
        term *= (n - i) / (i + 1) * p / (1 - p)
        total += term
        if term < 1e-18 * max(total, 1e-18):
            break
    return total


def upper_bound(errors: int, n: int, delta: float) -> float:
    """Return the Clopper-Pearson upper bound, at confidence 1 - delta, of a rate seen as errors/n."""
    if errors >= n:
        return 1.0
    low, high = errors / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_cdf(errors, n, middle) > delta else (low, middle)
    return high


def calibrate_threshold(
    p_best: Iterable[float], correct: Iterable[float], risk: float, *, delta: float = 0.1
) -> float:
    """Return the lowest threshold on P(correct) (so the widest coverage) that keeps the stated risk.

    `p_best` [N]: P(correct) of the specialist that would answer; `correct` [N] in {0,1}: whether it did. With
    probability 1 - `delta` over the calibration sample, at most `risk` of the prompts answered at or above
    the threshold are answered wrongly, on prompts drawn like the sample.

    Fixed-sequence testing (Angelopoulos et al., 'Learn then Test', 2021): thresholds 0.99, 0.98, ... are
    fixed beforehand; walking down, each is accepted while the Clopper-Pearson bound of its error rate is at
    most `risk`, and the first refusal ends the walk, so no correction for many tests is due. A walk that
    starts with few prompts can end by bad luck, so four walks start where n, 2n, 4n and 8n prompts are
    admitted, each at delta / 4; the starts depend on how many prompts are admitted, never on their outcomes.

    Raises UsageError for wrong values, too few prompts, and when no threshold keeps the risk.
    """
    p, y = _numbers(p_best), _numbers(correct)
    _checked(p, y, risk, delta)
    admitted = _admitted(p, y)
    share = delta / len(STARTS)
    enough = max(math.log(share) / math.log1p(-risk), 5 / risk)
    walks = [_walk(admitted, start * enough, risk, share) for start in STARTS]
    found = [threshold for threshold in walks if threshold is not None]
    if not found:
        raise UsageError(_refusal(admitted, enough, risk, share, len(p)))
    return min(found)


class _Admitted(NamedTuple):
    """What a threshold lets through, and how much of it was wrong."""

    threshold: float
    size: int
    errors: int


def _admitted(p: list[float], y: list[float]) -> list[_Admitted]:
    pairs = sorted(zip(p, y, strict=True), reverse=True)
    rows, count, errors = [], 0, 0
    for threshold in GRID:
        while count < len(pairs) and pairs[count][0] >= threshold:
            errors += int(pairs[count][1] == 0)
            count += 1
        rows.append(_Admitted(threshold, count, errors))
    return rows


def _walk(admitted: list[_Admitted], start: float, risk: float, delta: float) -> float | None:
    """Return the last threshold accepted from the first that admits `start` prompts; None for none."""
    last = None
    for one in admitted:
        if one.size < start:
            continue
        # P(so few errors | rate = risk) <= delta is the same as: the Clopper-Pearson bound is <= risk.
        if binomial_cdf(one.errors, one.size, risk) > delta:
            break
        last = one.threshold
    return last


def _refusal(admitted: list[_Admitted], enough: float, risk: float, delta: float, total: int) -> str:
    first = next((one for one in admitted if one.size >= enough), admitted[-1])
    bound = upper_bound(first.errors, first.size, delta)
    return (
        f"no threshold keeps risk {risk:g}: among the {first.size} most confident of {total} prompts "
        f"{first.errors} were wrong (upper bound {bound:.3f}); allow more risk, better the probes, or "
        "calibrate on more prompts"
    )


def _numbers(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values]


def _checked(p: list[float], y: list[float], risk: float, delta: float) -> None:
    if not 0 < risk < 1 or not 0 < delta < 1:
        raise UsageError(f"risk is {risk} and delta {delta}; both must lie strictly between 0 and 1")
    if not p or len(p) != len(y):
        raise UsageError(
            f"{len(p)} probabilities and {len(y)} outcomes; give one outcome a prompt, and some prompts"
        )
    wrong = [value for value in p if not 0 <= value <= 1] + [value for value in y if value not in (0, 1)]
    if wrong:
        raise UsageError(
            f"{wrong[0]} is neither a probability nor an outcome of 0 or 1; calibrate the scores first"
        )
