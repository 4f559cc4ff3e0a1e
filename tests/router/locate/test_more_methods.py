"""Circuits, probes, magnitudes, languages, contrast neurons: planted truth, controls, refusals."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from tiny import CONFIGS, model, prompt

from pilothouse.bench.locate.planted import FACTS, Planted, planted_model
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.case import Case
from pilothouse.router.locate.circuit import edge_scores, judge, with_corrupt_edges
from pilothouse.router.locate.contrast import bias, contrast_scores, neutral_loss
from pilothouse.router.locate.decoding import control_labels, held_out_accuracy
from pilothouse.router.locate.languages import band, distance
from pilothouse.router.locate.methods import METHODS, locate
from pilothouse.router.locate.options import Options
from pilothouse.router.locate.run import record
from pilothouse.store.errors import UsageError


@cache
def planted() -> Planted:
    return planted_model(0)


@cache
def anatomy() -> Anatomy:
    return Anatomy.of(planted().model)


# -- circuits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in CONFIGS if not k.startswith("gemma")])
def test_corrupting_every_edge_gives_the_corrupt_run_and_none_the_clean_one(kind: str) -> None:
    found = Anatomy.of(model(kind))
    ids, other = prompt(8)[0].tolist(), prompt(8, seed=1)[0].tolist()
    case = Case(tuple(ids), 3, 4, tuple(other))
    edges = list(edge_scores(found, case))
    for corrupted, wanted in ((edges, other), ([], ids)):
        logits = with_corrupt_edges(found, case, corrupted)
        torch.testing.assert_close(logits, record(found, wanted).logits[-1], atol=1e-5, rtol=1e-4)


def test_the_planted_circuit_is_found_and_is_faithful_and_complete() -> None:
    finding = locate("circuit", anatomy(), planted().cases()[:4], Options(top=5))
    head = planted().head.name
    wanted = {"embed->L0.mlp", "L0.mlp->L1.attn", f"{head}->L2.mlp", "L2.mlp->logits", f"{head}->logits"}
    assert {one.name for one in finding.found} == wanted
    facts = finding.facts
    assert float(facts["faithfulness"]) > 0.9
    assert float(facts["completeness"]) > 0.9
    assert float(facts["faithfulness of random edges"]) < 0.3
    with pytest.raises(UsageError, match="names no place"):
        _ = finding.found[0].place


def test_circuits_refuse_what_they_cannot_judge() -> None:
    with pytest.raises(UsageError, match="Gemma"):
        locate("circuit", Anatomy.of(model("gemma2")), [Case((5, 6), 3, 4, (7, 6))])
    case = planted().case(0)
    with pytest.raises(UsageError, match="no circuit to judge"):
        judge(anatomy(), replace(case, corrupt=case.ids), [], [])


# -- probes --------------------------------------------------------------------------------------------------


def labelled(count: int = 48) -> list[Case]:
    """The label is the fact's parity: decodable from the carried attribute, at the last token, from layer
    1.
    """
    return [planted().case(i % FACTS, seed=i // FACTS) for i in range(count)]


def test_probes_find_the_layer_from_which_the_label_stands_at_the_last_token() -> None:
    finding = locate("probe", anatomy(), labelled())
    accuracy = finding.grids[0].values
    assert float(accuracy[1:, 0].min()) > 0.95
    # any head that looks at the subject lets a trace of it through, so layer 0 is not at chance
    assert float(accuracy[0, 0]) < float(accuracy[1, 0])
    assert float(accuracy[:, 1].max()) < 0.75  # the control task cannot be learnt
    assert finding.found[0].name in ("L1.resid", "L2.resid")
    assert finding.found[0].score > 0.25


def test_probes_know_their_limits() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    assert held_out_accuracy(x, (x[:, 2] > 0).float(), 0) > 0.8
    with pytest.raises(UsageError, match="both classes"):
        held_out_accuracy(x, torch.ones(40), 0)
    with pytest.raises(UsageError, match="at least 8"):
        held_out_accuracy(x[:5], torch.tensor([0.0, 1, 0, 1, 0]), 0)
    case = planted().case(0)
    same = control_labels([case, planted().case(1), case], 0)
    assert same[0] == same[2]
    with pytest.raises(UsageError, match='"label"'):
        locate("probe", anatomy(), [replace(case, label=None)])


# -- magnitude -----------------------------------------------------------------------------------------------


def test_magnitudes_find_what_was_planted_large() -> None:
    weights = locate("magnitude", anatomy(), planted().cases(), Options(how="weights", kind="heads"))
    assert weights.found[0].name == planted().head.name
    written = locate("magnitude", anatomy(), planted().cases(), Options(top=2 * FACTS))
    truth = {place.name for place in (*planted().value, *planted().query)}
    assert len({one.name for one in written.found} & truth) >= 1.8 * FACTS


def test_contrast_finds_the_neurons_of_one_class_and_not_of_shuffled_ones() -> None:
    cases = [replace(one, label=int(one.answer == planted().case(0).answer)) for one in labelled(32)]
    finding = locate("magnitude", anatomy(), cases, Options(how="contrast"))
    assert finding.found[0].name == planted().value[0].name
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = [replace(one, label=cases[order[i]].label) for i, one in enumerate(cases)]
    control = locate("magnitude", anatomy(), shuffled, Options(how="contrast"))
    assert control.found[0].score < 0.3 * finding.found[0].score
    with pytest.raises(UsageError, match="both 0 and 1"):
        locate("magnitude", anatomy(), [replace(c, label=1) for c in cases], Options(how="contrast"))


# -- languages -----------------------------------------------------------------------------------------------


def test_distances_of_clouds() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(60, 5, generator=generator) for _ in range(2))
    assert distance(one, one) == pytest.approx(0, abs=1e-6)
    assert distance(one, two) == pytest.approx(distance(two, one), rel=0.05)
    assert distance(one, two + 9) > distance(one, two) + 15
    assert distance(one, two * 5, mean=False) > 2 * distance(one, two, mean=False)
    # a rotation of the space changes nothing
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    assert distance(one @ turn, two @ turn) == pytest.approx(distance(one, two), rel=1e-3)
    assert band([5, 4, 1, 1.2, 6, 7, 8, 9, 9, 9]) == (1, 3)


def test_languages_part_where_their_words_differ() -> None:
    """Two vocabularies: apart after layer 0; one vocabulary twice: not."""

    def texts(start: int, name: str, seed: int) -> list[Case]:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(start, start + 6, (12, 9), generator=generator).tolist()
        return [Case(tuple(row), 3, language=name) for row in rows]

    apart = locate("languages", anatomy(), texts(19, "xx", 0) + texts(27, "yy", 1))
    alike = locate("languages", anatomy(), texts(19, "xx", 0) + texts(19, "yy", 1))
    assert apart.grids[0].values.min() > alike.grids[0].values.max()
    assert apart.tensors["vector.xx"].shape == (3, 64)
    with pytest.raises(UsageError, match="two languages"):
        locate("languages", anatomy(), texts(19, "xx", 0))
    with pytest.raises(UsageError, match='"language"'):
        locate("languages", anatomy(), planted().cases())


# -- contrast neurons ----------------------------------------------------------------------------------------


def test_neurons_that_tip_the_answer_are_the_planted_ones() -> None:
    cases = planted().cases()[:3]
    scores = contrast_scores(anatomy(), cases)
    for case, value, query in zip(cases, planted().value, planted().query, strict=False):
        one = contrast_scores(anatomy(), [case])
        assert divmod(int(one.leaning.argmax()), 40) == (value.layer, value.unit)
        assert divmod(int(one.subject.argmax()), 40) == (query.layer, query.unit)
    assert float(scores.general.abs().sum()) < 0.3 * float(scores.subject.abs().sum())
    finding = locate("contrast", anatomy(), [planted().case(1)], Options(top=4))
    assert {one.name for one in finding.found[:2]} == {planted().value[1].name, planted().query[1].name}
    assert "bias -" in finding.found[0].note


def test_removing_the_found_neurons_removes_the_bias_and_not_the_rest() -> None:
    case = planted().case(1)
    texts = [planted().case(f).ids for f in (3, 4)]
    found = [planted().value[1]]
    assert bias(anatomy(), [case], found) < 0.5 * bias(anatomy(), [case])
    assert neutral_loss(anatomy(), texts, found) == pytest.approx(neutral_loss(anatomy(), texts), rel=0.02)
    with pytest.raises(UsageError, match='"subject"'):
        locate("contrast", anatomy(), [replace(case, subject=None)])


def test_every_method_in_the_table_runs_on_every_kind() -> None:
    """Llama-like and GPT-2-like: one each is enough here, the parts are tested on all."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(5, 90, (8, 12), generator=generator).tolist()
    cases = [
        Case(tuple(row), 3, 4, tuple(rows[(i + 1) % 8]), i % 2, "ab"[i % 2], (2, 4))
        for i, row in enumerate(rows)
    ]
    for kind in ("llama", "gpt2"):
        found = Anatomy.of(model(kind))
        kept = [c for c in cases if _worse(found, c)]
        assert kept
        for method in METHODS:
            some = kept[:1] if method in ("patch", "circuit") else cases
            finding = locate(method, found, some, Options(top=3, limit=8))
            assert finding.method == method
            assert len(finding.found) <= 12


def _worse(found: Anatomy, case: Case) -> bool:
    assert case.corrupt is not None
    clean, corrupt = record(found, case.ids), record(found, case.corrupt)
    return float(case.measure(clean.logits[-1]) - case.measure(corrupt.logits[-1])) > 1e-3
