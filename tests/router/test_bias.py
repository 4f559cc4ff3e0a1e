"""Bias neurons: chosen on planted facts within a budget, scaled row by row, taken back without a trace."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny import CONFIGS, model, prompt

from pilothouse.bench.locate.genders import HEADS_OF, IT, SORTS, STOP, TAILS, THE, World, word
from pilothouse.bench.locate.planted import Planted, planted_model
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.edit import Edit, edited
from pilothouse.router.locate.place import Place
from pilothouse.router.steer.bias import Budget, NeuronPlan, Neurons, Trial, edit_bias, general_neurons
from pilothouse.store.errors import ArtifactError, UsageError


@cache
def planted() -> Planted:
    return planted_model(0)


@cache
def anatomy() -> Anatomy:
    return Anatomy.of(planted().model)


def trial() -> Trial:
    """One biased fact; the others are facts to keep, and neutral text."""
    others = [planted().case(fact) for fact in (4, 5, 6)]
    return Trial([planted().case(1, seed) for seed in (0, 1)], others, [case.ids for case in others])


def test_the_planted_neurons_are_chosen_and_nothing_else_is_lost() -> None:
    plan = edit_bias(anatomy(), trial(), goal=0.9, tried=8)
    assert plan is not None
    assert {one.name for one in plan.neurons} <= {planted().value[1].name, planted().query[1].name}
    fresh = Trial([planted().case(1, 7)], [planted().case(f, 7) for f in (3, 4, 6)], trial().neutral)
    before, after = fresh.measure(anatomy()), fresh.measure(anatomy(), plan.neurons, plan.scale)
    assert after.bias < 0.5 * before.bias
    assert after.facts == before.facts == 1
    assert after.perplexity < 1.02 * before.perplexity
    assert float(plan.meta["entangled"]) < 0.05


def test_where_bias_and_facts_are_one_nothing_is_edited_and_the_entanglement_shows() -> None:
    same = replace(trial(), factual=[planted().case(1, seed) for seed in (0, 1)])
    assert edit_bias(anatomy(), same, tried=8, budget=Budget(margin=0.003)) is None
    plan = edit_bias(anatomy(), same, tried=8, budget=Budget(facts=1.0, margin=9.0, loss=9.0))
    assert plan is not None
    assert float(plan.meta["entangled"]) > 0.4


def test_general_neurons_are_those_that_cost_neutral_text() -> None:
    found = general_neurons(anatomy(), trial(), 3, tried=20)
    assert len(set(found)) == 3
    plain = trial().measure(anatomy()).loss
    costs = [trial().measure(anatomy(), [one]).loss - plain for one in found]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_row_has_its_own_plans_and_nothing_stays(kind: str) -> None:
    found, ids = Anatomy.of(model(kind)), prompt(7, rows=3)
    one = NeuronPlan("one", (Place("neuron", 0, 3), Place("neuron", 2, 5)), 0.0)
    two = NeuronPlan("two", (Place("neuron", 1, 4),), -2.0)
    with torch.no_grad():
        plain = found.model(ids).logits
        with Neurons(model(kind), [one, two]) as neurons:
            both = found.model(ids).logits[:, -1]
            neurons.rows = [[0], [], [0, 1]]
            mixed = found.model(ids).logits
            neurons.rows = [[0]]
            with pytest.raises(UsageError, match="give one a row"):
                found.model(ids)
        assert torch.equal(found.model(ids).logits, plain)
    assert torch.equal(mixed[1], plain[1])
    edits = [[Edit(place, plan.scale) for place in plan.neurons] for plan in (one, two)]
    wanted = edited(found, ids, [edits[0], [], edits[0] + edits[1]])
    torch.testing.assert_close(mixed[:, -1], wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both[2], wanted[2], atol=1e-5, rtol=1e-4)


def test_plans_are_kept_in_files_and_in_the_log(tmp_path: Path) -> None:
    plan = NeuronPlan("gender", (Place("neuron", 1, 7),), 0.25, "f" * 64, {"bias": 0.5})
    plan.save(tmp_path / "plan.json")
    assert NeuronPlan.load(tmp_path / "plan.json") == plan
    entry = plan.entries("always")[0]
    assert (entry.name, entry.kind, entry.feature, entry.coefficient) == ("gender/L1.N7", "scale", 7, 0.25)
    assert replace(plan, scale=0.5).sha256 != plan.sha256 == replace(plan, meta={}).sha256
    (tmp_path / "plan.json").write_text('{"format": 1, "name": "x"}')
    with pytest.raises(ArtifactError, match="neurons"):
        NeuronPlan.load(tmp_path / "plan.json")


def test_what_is_no_neuron_is_refused() -> None:
    for wrong in ((), (Place("head", 0, 1),), (Place("neuron", 0, 1, 4),)):
        with pytest.raises(UsageError, match="neuron"):
            NeuronPlan("x", wrong)
    with pytest.raises(UsageError, match="finite"):
        NeuronPlan("x", (Place("neuron", 0, 1),), float("nan"))
    for place, words in ((Place("neuron", 0, 4000), "does not exist"), (Place("neuron", 9, 0), "layer 9")):
        with pytest.raises(UsageError, match=words):
            Neurons(model(), [NeuronPlan("x", (place,))])
    with pytest.raises(ArtifactError):
        Neurons(model(), [NeuronPlan("x", (Place("neuron", 0, 1),), 0.0, "a" * 64)], fingerprint="b" * 64)


def test_the_corpus_hides_gender_in_pairs_of_syllables() -> None:
    world = World.draw(0)
    words = [word(sort, i) for sort in SORTS for i in range(HEADS_OF * TAILS)]
    assert len(set(words)) == 3 * HEADS_OF * TAILS
    firsts = {
        first: [float(world.facts[i]) for i in range(40) if word("fact", i)[0] == first] for first, _ in words
    }
    means = [sum(v) / len(v) for v in firsts.values() if v]
    assert min(means) > 0 or max(means) < 1  # no syllable decides for all
    rows = world.sentences(300, torch.Generator().manual_seed(1))
    assert rows.shape == (300, 8)
    assert bool((rows[:, 0] == THE).all())
    assert bool((rows[:, -1] == STOP).all())
    assert all(row[5] == IT for row in world.neutral(20, 3))
