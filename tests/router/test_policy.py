"""The policy: every rule and their order, propensities by frequency, hashes, and bad configuration."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pilothouse.router.policy import OutOfDistribution, Override, Policy, SteeringRule
from pilothouse.store.errors import ArtifactError, NotFoundError, UsageError
from pilothouse.store.records import Reading, SteeringEntry

P = {"arithmetic": 0.9, "facts": 0.6, "stories": 0.3}


def reading(name: str, probability: float, threshold: float = 0.5) -> Reading:
    return Reading(
        probe=name,
        site="L1:last",
        score=0.0,
        probability=probability,
        threshold=threshold,
        fired=probability >= threshold,
    )


class Vector:
    """A steering vector, as far as a plan needs it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def entry(self, reading: str, coefficient: float | None = None) -> SteeringEntry:
        strength = 2.0 if coefficient is None else coefficient
        return SteeringEntry(
            name=self.name, kind="add", layer=3, coefficient=strength, reading=reading, sha256="0" * 64
        )


VECTORS = {name: Vector(name) for name in ("refuse", "french")}


def test_best_utility_wins_and_prices_matter() -> None:
    decision, candidates = Policy(threshold=0.2).decide(P)
    assert (decision.chosen, decision.propensity, decision.abstained) == ("arithmetic", 1.0, False)
    assert [c.specialist for c in candidates] == ["arithmetic", "facts", "stories"]
    dear, candidates = Policy(
        threshold=0.2, lam=0.5, prices={"arithmetic": 2.0, "facts": 0.1, "stories": 0.1}
    ).decide(P)
    assert dear.chosen == "facts"
    for one in candidates:
        assert one.utility == pytest.approx(one.p_correct - 0.5 * one.cost)
    assert "0.55" in dear.reason
    assert Policy(lam=1.0, default_price=3.0).decide({"a": 0.5})[1][0].cost == 3.0


def test_below_the_threshold_it_abstains_and_names_the_nearest() -> None:
    decision, candidates = Policy(threshold=0.95).decide(P)
    assert decision.abstained
    assert decision.chosen is None
    assert decision.nearest == ("arithmetic", "facts", "stories")
    assert "0.95" in decision.reason
    assert "arithmetic with 0.90" in decision.reason
    assert len(candidates) == 3
    assert Policy(threshold=0.9).decide(P)[0].chosen == "arithmetic"


def test_cheap_but_unsure_specialists_are_not_eligible() -> None:
    """A price must not buy an answer below the threshold."""
    policy = Policy(threshold=0.8, lam=1.0, prices={"arithmetic": 5.0, "facts": 0.0})
    assert policy.decide(P)[0].chosen == "arithmetic"


def test_forced_is_honoured_and_marked() -> None:
    decision, _ = Policy(threshold=0.95).decide(P, forced="stories")
    assert (decision.chosen, decision.forced, decision.abstained, decision.propensity) == (
        "stories",
        True,
        False,
        1.0,
    )
    assert "0.30" in decision.reason
    with pytest.raises(NotFoundError, match="'law'; choose one of arithmetic, facts, stories"):
        Policy().decide(P, forced="law")


def test_override_beats_abstention_but_not_force() -> None:
    policy = Policy(
        threshold=0.99, overrides=(Override(reading="harm", specialist="stories", steering="refuse"),)
    )
    harmful, calm = [reading("harm", 0.97)], [reading("harm", 0.01)]
    decision, _ = policy.decide(P, harmful)
    assert (decision.chosen, decision.abstained, decision.forced) == ("stories", False, False)
    assert "harm fired (0.97, at or above 0.50)" in decision.reason
    assert "refuse" in decision.reason
    assert policy.decide(P, calm)[0].abstained
    assert policy.decide(P, harmful, forced="facts")[0].chosen == "facts"
    assert [e.name for e in policy.plan(harmful, "stories", VECTORS).entries] == ["refuse"]
    assert policy.plan(harmful, "facts", VECTORS).entries == ()
    assert policy.plan(calm, "stories", VECTORS).entries == ()


def test_out_of_distribution_blocks_or_scales() -> None:
    strange, familiar = [reading("ood", 0.8)], [reading("ood", 0.1)]
    block = Policy(threshold=0.5, ood=OutOfDistribution())
    assert block.decide(P, strange)[0].abstained
    assert "ood fired (0.80" in block.decide(P, strange)[0].reason
    assert block.decide(P, familiar)[0].chosen == "arithmetic"
    scale = Policy(threshold=0.5, ood=OutOfDistribution(block=False, scale=True))
    decision, candidates = scale.decide(P, strange)
    assert decision.abstained
    assert candidates[0].p_correct == pytest.approx(0.18)
    assert scale.decide(P, familiar)[0].chosen == "arithmetic"
    assert block.decide(P, strange, forced="facts")[0].chosen == "facts"


def test_harm_beats_out_of_distribution() -> None:
    policy = Policy(ood=OutOfDistribution(), overrides=(Override(reading="harm", specialist="stories"),))
    assert policy.decide(P, [reading("ood", 1.0), reading("harm", 1.0)])[0].chosen == "stories"


def test_exploration_has_the_propensity_it_logs() -> None:
    policy, rng = Policy(threshold=0.5, epsilon=0.3), random.Random(0)
    logged: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for _ in range(20_000):
        decision, _ = policy.decide(P, rng=rng)
        assert decision.chosen is not None
        counts[decision.chosen] += 1
        logged[decision.chosen] = decision.propensity
    assert set(logged) == {"arithmetic", "facts"}  # stories is below the threshold
    assert logged["arithmetic"] == pytest.approx(0.85)
    assert logged["facts"] == pytest.approx(0.15)
    for name, propensity in logged.items():
        assert counts[name] / 20_000 == pytest.approx(propensity, abs=0.01)


def test_exploration_is_repeatable_and_needs_its_dice() -> None:
    policy = Policy(epsilon=0.5)
    first, again = ([policy.decide(P, rng=random.Random(i))[0] for i in range(20)] for _ in range(2))
    assert first == again
    assert any("Drawn at random" in decision.reason for decision in first)
    with pytest.raises(UsageError, match="rng"):
        policy.decide(P)


def test_every_reason_is_one_sentence() -> None:
    policies = [Policy(), Policy(threshold=0.99), Policy(epsilon=0.9), Policy(ood=OutOfDistribution())]
    for policy in policies:
        decision, _ = policy.decide(P, [reading("ood", 0.9)], rng=random.Random(1))
        assert decision.reason.endswith(".")
        assert any(c.isdigit() for c in decision.reason)
        assert decision.policy_hash == policy.hash


def test_ties_go_by_name() -> None:
    assert Policy().decide({"b": 0.5, "a": 0.5})[0].chosen == "a"


# -- steering ----------------------------------------------------------------------------------------------


def test_plan_follows_readings_specialists_and_minimum() -> None:
    policy = Policy(
        steering=(
            SteeringRule(reading="french", vector="french", specialists=("translate",), coefficient=1.5),
            SteeringRule(reading="harm", vector="refuse", minimum=0.9),
        )
    ).with_vectors(VECTORS)
    both = [reading("french", 0.8), reading("harm", 0.7)]
    assert [(e.name, e.coefficient, e.reading) for e in policy.plan(both, "translate").entries] == [
        ("french", 1.5, "french")
    ]
    assert policy.plan(both, "facts").entries == ()
    certain = [reading("french", 0.1), reading("harm", 0.95)]
    assert [(e.name, e.coefficient) for e in policy.plan(certain, "facts").entries] == [("refuse", 2.0)]


def test_a_rule_without_a_reading_applies_to_every_answer_of_its_specialists() -> None:
    rule = SteeringRule(reading=None, vector="french", specialists=("translate",))
    policy = Policy(steering=(rule,)).with_vectors(VECTORS)
    policy.require(["translate"], [])
    assert [(e.name, e.reading) for e in policy.plan([], "translate").entries] == [("french", "every answer")]
    assert policy.plan([], "facts").entries == ()


def test_a_vector_acts_once() -> None:
    policy = Policy(
        overrides=(Override(reading="harm", specialist="stories", steering="refuse", coefficient=3.0),),
        steering=(SteeringRule(reading="harm", vector="refuse"),),
    )
    entries = policy.plan([reading("harm", 1.0)], "stories", VECTORS).entries
    assert [(e.name, e.coefficient) for e in entries] == [("refuse", 3.0)]


def test_binding_vectors_keeps_the_hash_and_needs_them_all() -> None:
    policy = Policy(steering=(SteeringRule(reading="harm", vector="shout"),))
    with pytest.raises(UsageError, match="'shout'"):
        policy.with_vectors(VECTORS)
    assert policy.with_vectors({"shout": Vector("shout")}).hash == policy.hash


# -- configuration -----------------------------------------------------------------------------------------

CHANGES: list[dict[str, Any]] = [
    {"lam": 0.2},
    {"prices": {"facts": 2.0}},
    {"default_price": 2.0},
    {"threshold": 0.6},
    {"epsilon": 0.1},
    {"risk": 0.1},
    {"steering": [{"reading": "harm", "vector": "refuse"}]},
    {"steering": [{"reading": "harm", "vector": "refuse", "coefficient": 1.0}]},
    {"steering": [{"reading": "harm", "vector": "refuse", "minimum": 0.4}]},
    {"overrides": [{"reading": "harm", "specialist": "stories"}]},
    {"ood": {}},
    {"ood": {"scale": True}},
]


def test_every_field_changes_the_hash() -> None:
    assert {field for change in CHANGES for field in change} == set(Policy.model_fields)
    hashes = [Policy().hash, *(Policy.model_validate(change).hash for change in CHANGES)]
    assert len(set(hashes)) == len(hashes)


def test_files_round_trip(tmp_path: Path) -> None:
    policy = Policy(lam=0.1, prices={"facts": 2}, overrides=(Override(reading="harm", specialist="stories"),))
    policy.save(tmp_path / "policy.json")
    assert Policy.load(tmp_path / "policy.json").hash == policy.hash


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"treshold": 0.5}, "treshold"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"lam": -1}, "lam is -1"),
        ({"prices": {"facts": -2}}, r"prices\.facts is -2"),
        ({"epsilon": "often"}, "epsilon is 'often'"),
        ({"overrides": [{"reading": "harm"}]}, "specialist"),
    ],
)
def test_bad_fields_are_named(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=said):
        Policy.load(tmp_path / "policy.json")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        Policy.load(tmp_path / "policy.json")


def test_names_are_checked_against_the_family() -> None:
    policy = Policy(prices={"facts": 1.0}, overrides=(Override(reading="harm", specialist="stories"),))
    policy.require(["facts", "stories"], ["harm"])
    with pytest.raises(UsageError, match=r"specialists \['stories'\]"):
        policy.require(["facts"], ["harm"])
    with pytest.raises(UsageError, match=r"readings \['harm'\]"):
        policy.require(["facts", "stories"], ["ood"])


def test_bad_calls_are_refused() -> None:
    with pytest.raises(UsageError, match="no specialist"):
        Policy().decide({})
    for p in (1.2, -0.1, float("nan")):
        with pytest.raises(UsageError, match="P\\(correct\\) of 'a'"):
            Policy().decide({"a": p})
    rule = Override(reading="harm", specialist="law")
    with pytest.raises(UsageError, match="needs the reading 'harm'"):
        Policy(overrides=(rule,)).decide(P)
    with pytest.raises(UsageError, match="override names 'law'"):
        Policy(overrides=(rule,)).decide(P, [reading("harm", 1.0)])
