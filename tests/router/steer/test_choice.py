"""The choice of layer and strength under a budget, and the validation gate with its controls."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from wired import FEATURES, HINT, WIDTH, dictionary, prompts, task, wired

from pilothouse.router.steer.admission import (
    Admission,
    Arm,
    admit,
    arm,
    evidence,
    identity,
    mcnemar,
    of_equal_push,
    random_twin,
)
from pilothouse.router.steer.choice import affordable, choose, divergence, neutral, stronger
from pilothouse.router.steer.making import Found, corrsteer_entry, load_rivals, load_vectors
from pilothouse.router.steer.picture import draw
from pilothouse.router.steer.task import Answer, play
from pilothouse.router.steer.vector import Gate, SteeringVector
from pilothouse.store.errors import ArtifactError, UsageError

HINTED = [(5, 6, HINT), (7, 8, HINT), (9, 10, HINT)]


def vector(feature: int = 0, coefficient: float = 2.0, layer: int = 0) -> SteeringVector:
    return SteeringVector(
        f"axis-{feature}", "add", layer, coefficient, "generation", torch.eye(WIDTH)[feature]
    )


def cost(vectors: object) -> float:
    return divergence(wired(), neutral([[5, 6, 7, 8, HINT, 2, 2]] * 3, begin=3))(vectors)  # type: ignore[arg-type]


def test_the_best_within_the_budget_wins_and_everything_tried_is_kept() -> None:
    effects = {("a", 1.0): 0.5, ("a", 2.0): 0.9, ("b", 1.0): 0.5, ("b", 2.0): 0.6}
    costs = {("a", 1.0): 0.2, ("a", 2.0): 2.0, ("b", 1.0): 0.1, ("b", 2.0): 0.3}
    options = {"a": [vector(1, 1.0)], "b": [vector(2, 1.0, layer=1)]}

    def key(vectors: list[SteeringVector]) -> tuple[str, float]:
        return "a" if vectors[0].layer == 0 else "b", vectors[0].coefficient

    found = choose(
        options,
        lambda v: effects[key(v)],  # type: ignore[arg-type]
        lambda v: costs[key(v)],  # type: ignore[arg-type]
        budget=0.5,
        baseline=0.4,
        strengths=(2.0, 1.0),
    )
    assert (found.option, found.strength) == ("b", 2.0)
    assert found.vectors[0].coefficient == 2.0
    assert len(found.tried) == 4
    assert found.record()["tried"][0] == ["a", (0,), 1.0, 0.5, 0.2]
    tie = choose(
        options,
        lambda v: 0.5,
        lambda v: costs[key(v)],
        budget=0.5,
        baseline=0.4,
        strengths=(1.0, 2.0),  # type: ignore[arg-type]
    )
    assert (tie.option, tie.strength) == ("b", 1.0)


@pytest.mark.parametrize(
    ("budget", "baseline", "said"),
    [(0.01, 0.0, "the least side effect is 0.1"), (1.0, 0.7, "beats the unsteered 0.7: the best is 0.5")],
)
def test_nothing_is_chosen_and_the_reason_says_why(budget: float, baseline: float, said: str) -> None:
    found = choose({"a": [vector()]}, lambda v: 0.5, lambda v: 0.1, budget=budget, baseline=baseline)
    assert found.vectors == ()
    assert said in found.reason


def test_an_entry_is_made_chosen_and_admitted_whole(tmp_path: Path) -> None:
    model, saes = wired(), {0: dictionary(0), 1: dictionary(1)}
    found = corrsteer_entry(
        model,
        task(prompts(80, 0.5)),
        task(prompts(30, 0.0, seed=1)),
        saes,
        cost,
        name="hint",
        budget=0.5,
        strengths=(0.1, 0.5, 1.0),
    )
    assert found.vectors[0].feature == 0
    assert found.vectors[0].meta["choice"]["budget"] == 0.5
    found.save(tmp_path / "entry")
    again = load_vectors(tmp_path / "entry" / "vectors")
    assert identity(again) == identity(found.vectors)
    assert len(load_rivals(tmp_path / "entry")) == 19
    held = task(prompts(40, 0.0, seed=2))
    verdict = admit(model, held, again, load_rivals(tmp_path / "entry"), cost, budget=0.5)
    assert verdict.admitted, verdict.reasons
    assert (verdict.right, verdict.arms[0].right, verdict.harmed) == (1.0, 0.0, 0.0)
    verdict.save(tmp_path / "admission.json")
    assert Admission.load(tmp_path / "admission.json") == verdict
    ElementTree.parse(draw(found.choice, tmp_path / "choice.svg"))
    with pytest.raises(UsageError, match="not empty"):
        found.save(tmp_path / "entry")


def test_the_gate_refuses_what_a_control_does_as_well() -> None:
    model, held = wired(), task(prompts(40, 0.0, seed=2))
    decoy = admit(model, held, [vector(7)], [()], cost, budget=9.0)
    assert not decoy.admitted
    assert any("no steering" in reason for reason in decoy.reasons)
    # a rival from shuffled labels that works as well: nothing was learned from the labels
    same = admit(model, held, [vector(0, 1.0)], [[vector(0, 1.0)]], cost, budget=9.0)
    assert [one.name for one in same.arms if not one.beaten] == ["shuffled labels"]
    # so strong that some random directions reach as far along the axis
    strong = admit(model, held, [vector(0, 2.0)], [()], cost, budget=9.0)
    assert [one.name for one in strong.arms if not one.beaten] == ["random directions"]
    dear = admit(model, held, [vector(0, 1.0)], [()], lambda v: 1.0, budget=0.5)
    assert dear.reasons == ("side effect 1 nats a token, at most 0.5 allowed",)


def answers(rights: list[bool]) -> list[Answer]:
    return [Answer((), 1, one, True) for one in rights]


def test_a_gain_that_chance_explains_is_refused() -> None:
    few = arm("x", answers([True, True, False]), [answers([True, False, False])])
    assert few.gain == pytest.approx(1 / 3)
    assert not few.beaten
    many = arm("x", answers([True] * 60 + [False] * 30), [answers([True] * 30 + [False] * 60)])
    assert many.beaten
    assert many.low == pytest.approx(1 / 3 - 1.96 * (2 / 9 / 89) ** 0.5)
    # four won and none lost: a normal interval would lie above 0, the exact test does not let it pass
    four = arm("x", answers([True] * 4 + [False] * 396), [answers([False] * 400)])
    assert (four.low > 0, four.p, four.beaten) == (True, 1 / 16, False)
    assert mcnemar(3, 1) == 5 / 16
    assert mcnemar(0, 0) == 1.0
    assert Arm("y", 0, 1, 0.1, 0.0, p=0.03).beaten is False


def test_an_entry_must_come_first_among_its_rivals() -> None:
    ours, theirs = answers([True] * 40 + [False] * 60), answers([True] * 10 + [False] * 90)
    better = answers([True] * 50 + [False] * 50)
    assert arm("x", ours, [theirs] * 19).beaten
    one = arm("x", ours, [theirs] * 18 + [better])
    assert (one.as_good, one.rivals, one.p < 1e-6, one.beaten) == (1, 19, True, False)
    assert "1 of 19 as good" in one.said
    # by what they were made from: the rival that helps more was made from less
    assert arm("x", ours, [theirs] * 18 + [better], [0.8, *[0.2] * 19]).beaten
    assert not arm("x", ours, [theirs] * 19, [0.2, *[0.1] * 18, 0.3]).beaten
    told = [replace(vector(i), meta={"correlation": r}) for i, r in enumerate((0.3, -0.5))]
    assert evidence([told, told[:1], []]) == [0.5, 0.3, 0.0]
    assert evidence([told, [vector(3)]]) is None


def test_an_entry_that_is_one_more_of_its_rivals_seldom_passes() -> None:
    generator = torch.Generator().manual_seed(0)
    passed = 0
    for _ in range(400):
        # every entry helps, each as much as it happens to: none knows more than the others
        shares = 0.3 + 0.5 * torch.rand(20, 1, generator=generator)
        rows = (torch.rand(20, 200, generator=generator) < shares).tolist()
        passed += arm("x", answers(rows[0]), [answers(row) for row in rows[1:]]).beaten
    assert passed / 400 <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5


def test_what_the_budget_affords() -> None:
    linear = affordable([vector(0, 1.0)], lambda v: 0.1 * v[0].coefficient, 0.5)
    assert 4.8 <= linear <= 5.0
    assert 0.18 <= affordable([vector(0, 1.0)], lambda v: v[0].coefficient, 0.2, halvings=6) <= 0.2
    assert affordable([vector(0, 1.0)], lambda v: 1.0, 0.5) == 0.0
    assert affordable([vector(0, 1.0)], lambda v: 0.0, 0.5, most=8.0) == 8.0


def test_twins_have_the_same_norm_place_and_gate() -> None:
    gate = Gate(0, torch.ones(WIDTH))
    ours = [replace(vector(0, 3.0), gate=gate), vector(1, 2.0, layer=1)]
    for one, twin in zip(ours, random_twin(ours, 0), strict=True):
        assert (twin.layer, twin.coefficient, twin.scope, twin.gate) == (
            one.layer,
            one.coefficient,
            one.scope,
            one.gate,
        )
        torch.testing.assert_close(twin.vector.norm(), one.vector.norm())
        assert abs(float(twin.vector @ one.vector)) < 0.9
    (scaled,) = of_equal_push([vector(4, 0.5)], ours)
    assert scaled.coefficient == pytest.approx(13**0.5)
    assert [one.coefficient for one in stronger(ours, 2.0)] == [6.0, 4.0]
    assert identity(ours) != identity(stronger(ours, 2.0))
    assert identity(ours) == identity([replace(one, meta={"a": 1}) for one in ours])


def test_neutral_batches_begin_where_asked() -> None:
    found = neutral([[1] * 8, [2] * 8, [3] * 6, [4] * 3], begin=3)
    assert [batch["input_ids"].shape for batch in found] == [(1, 6), (2, 8)]
    assert int((found[1]["labels"][0] != -100).nonzero()[0]) == 4
    assert cost([]) == 0.0
    assert cost([vector(0, 2.0)]) > 0.0


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to try"):
        choose({}, lambda v: 0.0, lambda v: 0.0, budget=1, baseline=0)
    with pytest.raises(UsageError, match="0 rivals"):
        admit(wired(), task(prompts(4, 0.5)), [vector()], [], cost, budget=1)
    with pytest.raises(UsageError, match="no neutral text"):
        neutral([[1, 2]])
    (tmp_path / "bad.json").write_text('{"format": 2}')
    with pytest.raises(ArtifactError, match="lacks the field"):
        Admission.load(tmp_path / "bad.json")
    assert isinstance(
        Found((), (), choose({"a": [vector()]}, lambda v: 1, lambda v: 0, budget=1, baseline=0), "x"), Found
    )
    assert len(play(wired(), task(HINTED))) == 3
    assert dictionary().d_sae == FEATURES
