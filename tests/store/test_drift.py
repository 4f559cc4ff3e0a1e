"""Drift: planted shifts raise the alarm that names them; the same traffic does not."""

import random
from collections.abc import Iterator

import pytest
from finished import finished

from pilothouse.store.drift import drift, ks_distance, ks_p_value
from pilothouse.store.errors import UsageError
from pilothouse.store.records import Candidate, Generation, Page, Part, Reading


def traffic(
    count: int, seed: int, *, ood: float = -3.0, a: float = 0.5, right: float = 0.0, talk: int = 1
) -> Iterator[Page]:
    """Pages with a reading around `ood`, a share `a` answered by specialist a, outcomes `right` off."""
    rng = random.Random(seed)
    for number in range(count):
        score = rng.gauss(ood, 1)
        reading = Reading(
            probe="ood",
            site="s",
            score=score,
            probability=min(1, max(0, 0.5 + score / 9)),
            threshold=0.5,
            fired=score > 0,
        )
        p = rng.uniform(0.4, 0.8)
        name = "a" if rng.random() < a else "b"
        part = Part(
            readings=(reading,),
            candidates=(Candidate(specialist=name, p_correct=p, cost=1, utility=p),),
            generation=Generation(specialist=name, prompt_tokens=rng.randint(5, 30), finish_reason="stop"),
        )
        outcome = float(rng.random() < p + right)
        yield finished(part, outcome, f"{seed}-{number // talk}")


@pytest.mark.parametrize(
    ("shift", "named"),
    [
        ({"ood": -1.0}, {"score of ood", "ood fired"}),
        ({"a": 0.75}, {"answered by a", "answered by b"}),
        ({"right": -0.35}, {"outcome less P(correct)"}),
    ],
)
def test_a_planted_shift_is_named(shift: dict[str, float], named: set[str]) -> None:
    found = drift(traffic(400, 1), traffic(400, 2, **shift))
    alarms = {one.quantity for one in found.alarms}
    assert named <= alarms
    assert alarms <= named | {"ood fired", "P(correct) of a", "P(correct) of b"}


def test_the_same_traffic_is_quiet() -> None:
    """The control: among 60 pairs of equal periods, alarms are the accident they are allowed to be."""
    alarms = sum(bool(drift(traffic(150, 2 * n), traffic(150, 2 * n + 1)).alarms) for n in range(60))
    assert alarms <= 2


def test_one_long_conversation_is_one_voice() -> None:
    with pytest.raises(UsageError, match="newest period has 4 conversations"):
        drift(traffic(400, 1), traffic(400, 2, ood=5.0, talk=100))


def test_the_distance_and_its_surprise() -> None:
    assert ks_distance([1, 2, 3], [1, 2, 3]) == 0
    assert ks_distance([1, 2, 3], [4, 5, 6]) == 1
    assert ks_distance([1, 1, 2, 2], [1, 2, 2, 2]) == pytest.approx(0.25)
    # tabulated: at z = 1.36 the chance is 5 %, at 1.63 it is 1 %
    big = 10**6
    scale = (2 / big) ** 0.5
    assert ks_p_value(1.3581 * scale, big, big) == pytest.approx(0.05, abs=0.001)
    assert ks_p_value(1.6276 * scale, big, big) == pytest.approx(0.01, abs=0.001)
