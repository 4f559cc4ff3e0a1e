"""Off-policy estimates against an environment whose truth is known; and against logs that cannot tell."""

from typing import Any

import numpy as np
import pytest

from pilothouse.router.offpolicy import METHODS, Logged, evaluate, gain, unsupported
from pilothouse.store.errors import UsageError

RUNS, ROWS = 500, 1000
SLOPES = np.array([[1.5, 0.0, -0.5], [-1.0, 1.0, 0.0], [0.0, -1.5, 0.5], [0.3, 0.3, 0.3]])
BIAS = np.array([0.5, 0.2, 0.0, -0.8])


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _greedy(scores: Any, epsilon: float) -> Any:
    """Chances [N, A] of choosing the best score, with some exploration."""
    chances = np.full(scores.shape, epsilon / scores.shape[1])
    chances[np.arange(len(scores)), scores.argmax(axis=1)] += 1 - epsilon
    return chances


class World:
    """Contexts, the chance that each action is right in them, a serving policy and a better one."""

    def __init__(self, rng: np.random.Generator, rows: int) -> None:
        x = rng.normal(size=(rows, 3))
        self.right = _sigmoid(x @ SLOPES.T + BIAS)
        belief = _sigmoid(
            0.6 * (x @ SLOPES.T) + np.roll(BIAS, 1)
        )  # the serving probes: slope and bias are off
        self.serving = _greedy(belief, 0.25)
        self.target = _greedy(_sigmoid(0.9 * (x @ SLOPES.T) + BIAS), 0.02)
        self.model = belief

    @property
    def truth(self) -> float:
        return float((self.target * self.right).sum(axis=1).mean())

    def log(self, rng: np.random.Generator, model: Any = None) -> Logged:
        rows = np.arange(len(self.right))
        done = (self.serving.cumsum(axis=1) > rng.random((len(rows), 1))).argmax(axis=1)
        q = self.model if model is None else model
        return Logged(
            reward=(rng.random(len(rows)) < self.right[rows, done]).astype(float),
            propensity=self.serving[rows, done],
            target=self.target[rows, done],
            predicted=q[rows, done],
            baseline=(self.target * q).sum(axis=1),
        )


@pytest.fixture(scope="module")
def truth() -> tuple[float, float]:
    """What the target policy and the serving one really earn, from many contexts."""
    world = World(np.random.default_rng(99), 300_000)
    return world.truth, float((world.serving * world.right).sum(axis=1).mean())


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_covers_the_truth(truth: tuple[float, float], method: Any) -> None:
    """500 logs of 1,000 decisions: the interval at 95 % must hold the true value in at least 93 % of them."""
    rng = np.random.default_rng(4)
    found = [evaluate(World(rng, ROWS).log(rng), method) for _ in range(RUNS)]
    covered = np.mean([one.low <= truth[0] <= one.high for one in found])
    assert covered >= 0.93, covered
    error = np.mean([one.value for one in found]) - truth[0]
    assert abs(error) < 4 * np.std([one.value for one in found]) / RUNS**0.5 + 0.002


def test_the_gain_over_the_serving_policy_is_covered_too(truth: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    found = [gain(World(rng, ROWS).log(rng)) for _ in range(RUNS)]
    real = truth[0] - truth[1]
    assert real > 0.05
    assert np.mean([one.low <= real <= one.high for one in found]) >= 0.93
    assert np.mean([one.low > 0 for one in found]) > 0.5  # and it is mostly seen to be one


def test_doubly_robust_is_tight_with_a_fair_model_and_right_with_a_foolish_one(
    truth: tuple[float, float],
) -> None:
    rng = np.random.default_rng(6)
    widths = {method: [] for method in METHODS}
    foolish = []
    for _ in range(200):
        world = World(rng, ROWS)
        for method in METHODS:
            one = evaluate(world.log(rng, world.right), method)
            widths[method].append(one.high - one.low)
        foolish.append(evaluate(world.log(rng, rng.random(world.right.shape)), "dr"))
    assert max(np.mean(widths["dr"]), np.mean(widths["snips"])) < 0.8 * np.mean(widths["ips"])
    assert np.mean([one.low <= truth[0] <= one.high for one in foolish]) >= 0.90


def test_a_log_without_propensities_misleads(truth: tuple[float, float]) -> None:
    """The control: called certain, the same choices give intervals that mostly miss."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(100):
        one = World(rng, ROWS).log(rng)
        blind = Logged(one.reward, np.ones(ROWS), one.target, one.predicted, one.baseline)
        found = evaluate(blind, "ips")
        missed += not found.low <= truth[0] <= found.high
    assert missed > 80


def test_rows_of_one_conversation_count_as_one() -> None:
    rng = np.random.default_rng(8)
    one = World(rng, 100).log(rng)
    repeated = Logged(
        *(
            np.repeat(getattr(one, name), 5)
            for name in ("reward", "propensity", "target", "predicted", "baseline")
        ),
        groups=np.repeat(np.arange(100), 5).tolist(),
    )
    for method in METHODS:
        alone, grouped = evaluate(one, method), evaluate(repeated, method)
        assert grouped.value == pytest.approx(alone.value)
        assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=1e-9)


def test_the_same_policy_is_worth_what_it_earned() -> None:
    rng = np.random.default_rng(9)
    one = World(rng, 300).log(rng)
    same = Logged(one.reward, one.propensity, one.propensity, one.predicted, one.predicted)
    for method in METHODS:
        assert evaluate(same, method).value == pytest.approx(one.reward.mean())
        assert gain(same, method).low == pytest.approx(0, abs=1e-3)
    assert evaluate(same).effective == pytest.approx(300)


def test_what_no_log_can_tell_is_said() -> None:
    assert unsupported([[0.5, 0.5], [0.0, 1.0]], np.array([[1.0, 0.0], [1.0, 0.0]])) == 0.75
    assert unsupported([[1.0, 0.0]], np.array([[0.1, 0.9]])) == 0.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"propensity": [0.0, 1.0]}, "above 0"),
        ({"target": [1.5, 0.0]}, "within 0 and 1"),
        ({"reward": [1.0, float("nan")]}, "finite"),
        ({"reward": [1.0]}, "at least 2"),
        ({"groups": ["a"]}, "one each"),
    ],
)
def test_wrong_logs_are_refused(change: dict[str, Any], told: str) -> None:
    two = [0.5, 0.5]
    columns = {"reward": two, "propensity": two, "target": two, "predicted": two, "baseline": two}
    with pytest.raises(UsageError, match=told):
        Logged(**(columns | change))  # type: ignore[arg-type]
