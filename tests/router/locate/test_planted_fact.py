"""Every method finds the parts of a hand-wired fact, and finds nothing in a model without them."""

from functools import cache

import pytest
import torch

from pilothouse.bench.locate.planted import FACTS, NEURONS, Planted, accuracy, empty_model, planted_model
from pilothouse.router.locate import attribute
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.causal import without
from pilothouse.router.locate.methods import locate
from pilothouse.router.locate.options import Options
from pilothouse.router.locate.place import Place
from pilothouse.router.locate.run import record
from pilothouse.store.errors import UsageError


@cache
def planted() -> Planted:
    return planted_model(0)


@cache
def anatomy() -> Anatomy:
    return Anatomy.of(planted().model)


@cache
def empty() -> Anatomy:
    return Anatomy.of(empty_model(1))


def names(places: tuple[Place, ...]) -> set[str]:
    return {place.name for place in places}


def test_the_model_knows_its_facts() -> None:
    assert accuracy(planted().model, planted().cases(0)) == 1
    assert accuracy(planted().model, planted().cases(5, length=11)) == 1
    assert accuracy(empty().model, planted().cases(0)) < 0.5


def test_value_neurons_are_found_for_each_fact() -> None:
    for fact, case in enumerate(planted().cases()):
        found = locate("neurons", anatomy(), [case], Options(top=1)).found[0]
        assert found.name == planted().value[fact].name
    over_all = locate("neurons", anatomy(), planted().cases(), Options(top=FACTS))
    assert {one.name for one in over_all.found} == names(planted().value)


def test_query_neurons_are_found_at_the_subject() -> None:
    for fact, case in enumerate(planted().cases()):
        found = locate("queries", anatomy(), [case], Options(top=1)).found[0]
        assert found.name == planted().query[fact].name


def test_value_channels_belong_to_the_planted_head() -> None:
    finding = locate("channels", anatomy(), planted().cases(), Options(top=FACTS))
    assert {one.note for one in finding.found} == {f"head {planted().head.unit}"}
    assert {one.place.layer for one in finding.found} == {planted().head.layer}


@pytest.mark.parametrize(
    ("method", "kind"),
    [("heads", None), ("ablate", "heads"), ("patch", "heads"), ("gradient", "heads")],
)
def test_every_way_to_rank_heads_finds_the_planted_one(method: str, kind: str | None) -> None:
    finding = locate(method, anatomy(), planted().cases(), Options(kind=kind))
    assert finding.found[0].name == planted().head.name
    assert finding.found[0].score > 10 * abs(finding.found[1].score)
    if method == "patch":  # in a model that knows nothing, nothing can be brought back, and it says so
        with pytest.raises(UsageError, match="nothing to bring back"):
            locate(method, empty(), planted().cases(), Options(kind=kind))
        return
    control = locate(method, empty(), planted().cases(), Options(kind=kind))
    assert control.found[0].score < 0.05 * finding.found[0].score


@pytest.mark.parametrize("kind", ["neurons"])
@pytest.mark.parametrize("method", ["ablate", "patch", "gradient"])
def test_every_way_to_rank_neurons_finds_the_planted_ones(method: str, kind: str) -> None:
    truth = names(planted().value) | names(planted().query)
    finding = locate(method, anatomy(), planted().cases(), Options(kind=kind, top=2 * FACTS))
    assert len({one.name for one in finding.found} & truth) >= 1.8 * FACTS


def test_patched_states_lead_from_the_subject_to_the_last_token() -> None:
    case = planted().case(3)
    finding = locate("patch", anatomy(), [case], Options(kind="states"))
    assert case.subject is not None
    wanted = {f"L0.resid@{case.subject[0]}", "L1.resid@6", "L2.resid@6"}
    assert {one.name for one in finding.found[:3]} == wanted
    assert finding.found[2].score > 0.9
    assert finding.found[3].score < 0.1


def test_lens_sees_the_answer_appear_in_the_last_layer() -> None:
    finding = locate("lens", anatomy(), planted().cases())
    assert finding.found[0].name == "L2.resid"
    assert finding.facts["prompts where the answer leads at the end"] == FACTS
    last = finding.grids[1].values[-1, -1]
    run = record(anatomy(), planted().case(0).ids)
    torch.testing.assert_close(last, run.logits[-1].softmax(-1)[planted().case(0).answer])


def test_ten_found_neurons_matter_and_ten_random_ones_do_not() -> None:
    """Found on one wording, tried on another."""
    generator = torch.Generator().manual_seed(0)
    for fact in range(3):
        first, second = planted().case(fact), planted().case(fact, seed=9, length=10)
        found = locate("neurons", anatomy(), [first], Options(top=10)).places
        random = [Place("neuron", 2, int(i)) for i in torch.randperm(NEURONS, generator=generator)]
        random = [place for place in random if place not in planted().value][:10]
        before = record(anatomy(), second.ids).logits[-1].softmax(-1)[second.answer]
        after = without(anatomy(), second, found).softmax(-1)[second.answer]
        control = without(anatomy(), second, random).softmax(-1)[second.answer]
        assert float(after) < 0.5 * float(before)
        assert abs(float(control) / float(before) - 1) < 0.05


def test_log_probability_increase_is_among_the_best_of_nine_scores() -> None:
    hits: dict[str, int] = {}
    for fact, case in enumerate(planted().cases()):
        scores = attribute.neuron_scores(anatomy(), record(anatomy(), case.ids), case, seed=fact)
        truth = (planted().value[fact].layer, planted().value[fact].unit)
        for name, score in scores.items():
            hits[name] = hits.get(name, 0) + (divmod(int(score.argmax()), NEURONS) == truth)
    assert len(hits) == 9
    assert hits["log-probability increase"] == FACTS
    assert hits["random"] <= 1
    assert hits["value norm"] <= 1  # says nothing of the prompt


def test_patching_refuses_what_it_cannot_compare() -> None:
    from dataclasses import replace

    case = planted().case(0)
    for wrong, said in (
        (replace(case, corrupt=None), '"corrupt"'),
        (replace(case, corrupt=case.ids[:-1]), "equal length"),
        (replace(case, corrupt=case.ids), "no worse"),
    ):
        with pytest.raises(UsageError, match=said):
            locate("patch", anatomy(), [wrong])


def test_unknown_methods_options_and_tokens_are_refused() -> None:
    from dataclasses import replace

    case = planted().case(0)
    with pytest.raises(UsageError, match="no method 'magic'"):
        locate("magic", anatomy(), [case])
    with pytest.raises(UsageError, match="kind 'atoms'"):
        locate("ablate", anatomy(), [case], Options(kind="atoms"))
    with pytest.raises(UsageError, match="leave how out"):
        locate("neurons", anatomy(), [case], Options(how="loudly"))
    with pytest.raises(UsageError, match="vocabulary"):
        locate("neurons", anatomy(), [replace(case, answer=10**6)])
    with pytest.raises(UsageError, match="no prompts"):
        locate("neurons", anatomy(), [])


def test_without_an_answer_the_first_choice_is_explained() -> None:
    from dataclasses import replace

    case = planted().case(4)
    finding = locate("neurons", anatomy(), [replace(case, answer=-1, against=None)], Options(top=1))
    assert finding.found[0].name == planted().value[4].name
