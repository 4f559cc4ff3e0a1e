"""The overview against planted truth: drift that is there is seen, none is invented; calibration too."""

from __future__ import annotations

import random

import pytest
from finished import finished
from made_log import part_of

from pilothouse.agents.web.overview import calibration, drift, percentile, separation, share
from pilothouse.store.records import Page, Part, Reading


def read(rng: random.Random, shift: float) -> Page:
    """A page with two readings: one steady, one that moves by `shift`."""
    values = {"steady": rng.betavariate(2, 5), "moving": min(1.0, rng.betavariate(2, 5) + shift)}
    readings = tuple(
        Reading(probe=name, site="s", score=0.0, probability=p, threshold=0.5, fired=p >= 0.5)
        for name, p in values.items()
    )
    return finished(Part(readings=readings))


def test_planted_drift_is_seen_and_only_that() -> None:
    rng = random.Random(1)
    before, after = [read(rng, 0.0) for _ in range(200)], [read(rng, 0.15) for _ in range(200)]
    rows = {row["reading"]: row for row in drift(before, after)}
    assert (rows["moving"]["moved"], rows["steady"]["moved"]) == (True, False)
    assert rows["moving"]["after"] - rows["moving"]["before"] == pytest.approx(0.15, abs=0.04)


def test_without_drift_alarms_are_as_rare_as_stated() -> None:
    rng = random.Random(2)
    alarms = sum(
        row["moved"]
        for _ in range(60)
        for row in drift([read(rng, 0.0) for _ in range(60)], [read(rng, 0.0) for _ in range(60)])
    )
    assert alarms <= 5  # 120 readings at one in a hundred: more than five has a chance below 1 in 300


def test_separation_at_awkward_sizes() -> None:
    assert separation([0.5], [0.5]) == 0.0
    assert separation([0.0], [1.0]) == 1.0
    assert separation([0.1, 0.2, 0.3], [0.2]) == pytest.approx(1 / 3)
    assert drift([], [read(random.Random(0), 0.0)]) == []


def judged(count: int, right: str) -> list[Page]:
    """Answers whose score is drawn from P(correct), or from a coin, or that are always wrong."""
    rng, found = random.Random(3), []
    while len(found) < count:
        part = part_of("facts", "a prompt", "an answer", rng)
        if part.specialist is None:
            continue
        p = next(one.p_correct for one in part.candidates if one.specialist == part.specialist)
        chance = {"as believed": p, "by a coin": 0.5, "never": 0.0}[right]
        found.append(finished(part, float(rng.random() < chance)))
    return found


def test_calibration_tells_true_beliefs_from_false() -> None:
    errors = {
        right: calibration(judged(600, right))["error"] for right in ("as believed", "by a coin", "never")
    }
    assert errors["as believed"] < 0.08 < errors["by a coin"] < errors["never"]


def test_calibration_takes_only_what_it_can_judge() -> None:
    good = judged(5, "as believed")
    part = good[0].record.parts[0]
    two = good[0].model_copy(update={"record": good[0].record.model_copy(update={"parts": (part, part)})})
    wild = finished(part, 7.0)
    assert calibration([*good, two, wild, finished(part)])["records"] == 5
    assert calibration([])["error"] is None


def test_shares_and_percentiles() -> None:
    assert share(0, 0)["share"] is None
    found = share(8, 10)
    assert found["low"] == pytest.approx(0.490, abs=5e-3)  # Wilson's interval, worked by hand
    assert found["high"] == pytest.approx(0.943, abs=5e-3)
    assert [percentile([1, 2, 3, 4], p) for p in (1, 50, 75, 99)] == [1, 2, 3, 4]
    assert percentile([], 50) is None
