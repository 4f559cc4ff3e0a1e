"""Comparing runs and models, following the logit, sinks, in-context heads: planted truth and controls."""

import copy
from functools import cache

import pytest
import torch
from tiny import CONFIGS, model, prompt

from pilothouse.bench.locate.planted import ANSWER, FACTS, SUBJECT, Planted, empty_model, planted_model
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.case import Case
from pilothouse.router.locate.edit import Edit, edited, only
from pilothouse.router.locate.flow import STAGES, flow_of, stages
from pilothouse.router.locate.incontext import corrected, head_ranks, logit_minus, majority_edit
from pilothouse.router.locate.methods import locate
from pilothouse.router.locate.options import Options
from pilothouse.router.locate.place import Place
from pilothouse.router.locate.run import record
from pilothouse.router.locate.sinks import clamped, fair_share, norm_ratios, sink_scores
from pilothouse.store.errors import UsageError


@cache
def planted() -> Planted:
    return planted_model(0)


@cache
def anatomy() -> Anatomy:
    return Anatomy.of(planted().model)


def names(places: tuple[Place, ...]) -> set[str]:
    return {place.name for place in places}


# -- comparing -----------------------------------------------------------------------------------------------


def test_silencing_the_key_head_moves_the_planted_value_neurons() -> None:
    finding = locate("compare", anatomy(), planted().cases(), Options(top=FACTS))
    assert finding.facts["compared with"] == f"{planted().head.name} silenced"
    assert {one.name for one in finding.found} == names(planted().value)
    other = next(h for h in range(4) if h != planted().head.unit)
    control = locate("compare", anatomy(), planted().cases(), Options(kind=f"L1.H{other}"))
    assert abs(control.found[0].score) < 0.05 * finding.found[0].score


def test_another_model_shows_where_the_two_differ() -> None:
    twin = copy.deepcopy(planted().model)
    place = planted().value[2]
    twin.model.layers[place.layer].mlp.down_proj.weight[:, place.unit] = 0
    finding = locate("compare", anatomy(), [planted().case(2)], Options(other=Anatomy.of(twin)))
    assert finding.found[0].name == place.name
    assert finding.found[1].score < 0.05 * finding.found[0].score
    with pytest.raises(UsageError, match="one architecture"):
        locate("compare", anatomy(), planted().cases(), Options(other=model("llama")))


def test_keeping_only_the_found_neurons_keeps_the_answer() -> None:
    case = planted().case(5)
    for kept, right in (([planted().value[5]], True), ([planted().value[4]], False)):
        logits = edited(anatomy(), torch.tensor(case.ids), [only(anatomy(), kept, [2])])[0]
        share = float(logits.softmax(-1)[case.answer])
        before = float(record(anatomy(), case.ids).logits[-1].softmax(-1)[case.answer])
        assert (share > 0.6 * before) is right


# -- flow ----------------------------------------------------------------------------------------------------


def test_the_stages_of_recall_separate() -> None:
    layers = []
    for case in planted().cases():
        assert case.subject is not None
        found = stages(flow_of(anatomy(), case), case.subject)
        assert bool((found[[0, 1, 3], 0] > 0.05).all())
        assert float(found[2, 0]) < 0.2 * float(found[[0, 1, 3], 0].sum())  # nothing was planted there
        layers.append(found[[0, 1, 3], 1])
    first, second, last = torch.stack(layers).mean(0).tolist()
    assert first < 0.5 < second < 1.5 < last


def test_flow_reports_stages_and_refuses_nothing_without_a_subject() -> None:
    finding = locate("flow", anatomy(), planted().cases()[:2])
    assert set(STAGES) <= set(finding.facts)
    subject = planted().case(0).subject
    assert subject is not None
    assert finding.found[0].name in ("L2.mlp@6", f"L0.mlp@{subject[0]}")
    from dataclasses import replace

    bare = locate("flow", anatomy(), [replace(planted().case(0), subject=None)])
    assert not set(STAGES) & set(bare.facts)


# -- sinks ---------------------------------------------------------------------------------------------------


def sink_model() -> Anatomy:
    """A planted sink: the first MLP blows token 1 up along axis 5, and the later heads look for that axis."""
    found = empty_model(3)
    table, layers = found.model.embed_tokens.weight, found.model.layers
    table *= 50  # states of length ~4, so that norms mean something
    table[:, 5:8] = 0
    table[:, 6] = 8  # what the heads ask with
    table[1, 7] = 8  # what token 1 is known by
    layers[0].mlp.gate_proj.weight[0, 7] += 1
    layers[0].mlp.up_proj.weight[0, 7] += 1
    layers[0].mlp.down_proj.weight[5, 0] += 4
    for layer in layers[1:]:
        for head in range(4):
            slow = 16 * head + 7  # the rotary pair that hardly turns
            layer.self_attn.k_proj.weight[slow, 5] += 4
            layer.self_attn.q_proj.weight[slow, 6] += 3
    return Anatomy.of(found)


def long_cases(count: int = 3, tokens: int = 24) -> list[Case]:
    rows = torch.randint(3, 35, (count, tokens), generator=torch.Generator().manual_seed(0))
    rows[:, 0] = 1
    return [Case(tuple(row), 3) for row in rows.tolist()]


def test_planted_sinks_are_found_and_the_clamp_removes_them() -> None:
    sinks, cases = sink_model(), long_cases()
    scores = sink_scores(sinks, cases)
    assert float(scores[1:].min()) > 0.5
    assert float(scores[0].max()) < 0.3
    ratios = norm_ratios(sinks, cases)
    assert float(ratios[0]) < 1.5 < 3 < float(ratios[1])
    finding = locate("sinks", sinks, cases)
    assert finding.facts["clamped after"] == "L0"
    # the next layers' norms read directions, which shrinking does not change
    assert abs(float(str(finding.facts["excess removed by the clamp"]))) < 0.1
    for how, removed in (("coordinates", True), ("direction", True), ("random", False)):
        capped = locate("sinks", sinks, cases, Options(how=how))
        assert (float(str(capped.facts["excess removed by the clamp"])) >= 0.5) is removed, how


def test_an_untrained_model_gives_its_fair_share() -> None:
    cases = long_cases()
    scores = sink_scores(Anatomy.of(empty_model(4)), cases)
    assert float((scores - fair_share(cases)).abs().max()) < 0.02


def test_clamping_small_norms_changes_nothing_and_leaves_no_hook() -> None:
    found = Anatomy.of(empty_model(4))
    ids = torch.tensor([long_cases()[0].ids])
    # position 0 repeats position 1's token, so its norm is no larger than the median of equals
    ids[:] = 7
    with torch.no_grad():
        before = found.model(ids).logits
        with clamped(found, 0):
            torch.testing.assert_close(found.model(ids).logits, before, atol=1e-4, rtol=1e-4)
        assert torch.equal(found.model(ids).logits, before)


def test_short_prompts_have_no_sinks_to_read() -> None:
    with pytest.raises(UsageError, match="longer prompts"):
        sink_scores(anatomy(), planted().cases())
    with pytest.raises(UsageError, match="layer 9"):
        locate("sinks", anatomy(), long_cases(), Options(layer=9))


@pytest.mark.parametrize("kind", CONFIGS)
def test_sink_scores_are_attention_on_every_kind(kind: str) -> None:
    found = Anatomy.of(model(kind))
    case = Case(tuple(prompt(14)[0].tolist()), 3)
    weights = record(found, case.ids, weights=True).weights
    assert weights is not None
    torch.testing.assert_close(sink_scores(found, [case]), weights[:, :, 8:, 0].mean(-1))


# -- in-context heads ----------------------------------------------------------------------------------------


def copying_cases(seed: int = 0, repeat: int = 1) -> list[Case]:
    """Prompts whose planted head fetches the label of the subject that stands in them."""
    found = []
    for fact in range(FACTS):
        case = planted().case(fact, seed, length=9)
        other = ANSWER + (fact + 3) % FACTS
        ids = list(case.ids)
        free = [at for at in range(8) if ids[at] != SUBJECT + fact]
        for at in free[:repeat]:
            ids[at] = case.answer
        for at in free[repeat : repeat + 3]:
            ids[at] = other
        found.append(Case(tuple(ids), case.answer, other))
    return found


def test_the_planted_head_leads_both_ranks_and_random_heads_do_not_matter() -> None:
    cases = copying_cases()
    finding = locate("incontext", anatomy(), cases)
    assert finding.found[0].name == planted().head.name
    lost, raised, _ = head_ranks(anatomy(), cases)
    where = (planted().head.layer, planted().head.unit)
    assert float(lost[where]) > 10 * float(lost.flatten().sort().values[-2])
    assert float(raised[where]) > 10 * float(raised.flatten().sort().values[-2])


def test_logit_minus_is_where_the_head_fetched_the_label() -> None:
    for case in copying_cases():
        minus = logit_minus(anatomy(), record(anatomy(), case.ids, weights=True), case, planted().head)
        at = next(i for i, token in enumerate(case.ids) if SUBJECT <= token < SUBJECT + FACTS)
        assert int(minus.argmax()) == at
        assert float(minus[at]) > 0


def test_the_majority_correction_at_strength_zero_is_exactly_nothing() -> None:
    case = copying_cases()[0]
    before = edited(anatomy(), torch.tensor(case.ids), [[]])[0]
    heads = [Place("head", 0, 0)]  # it looks everywhere alike, so also at the labels
    assert torch.equal(corrected(anatomy(), case, majority_edit(anatomy(), case, heads, 0.0)), before)
    changed = corrected(anatomy(), case, majority_edit(anatomy(), case, heads, 1.0))
    assert not torch.equal(changed, before)
    balanced = copying_cases(repeat=3)[0]
    edit = majority_edit(anatomy(), balanced, heads, 1.0)
    assert isinstance(edit, Edit)
    assert edit.value is not None
    assert not bool(edit.value.any())


def test_incontext_needs_a_rival_label() -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match='"against"'):
        locate("incontext", anatomy(), [replace(planted().case(0), against=None)])
