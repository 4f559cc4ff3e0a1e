"""Edits change the named columns alone and come back bit for bit; pruning keeps what matters by
construction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.router.fingerprint import fingerprint
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.case import Case
from pilothouse.router.locate.contrast import bias
from pilothouse.router.locate.place import Place
from pilothouse.router.locate.run import record
from pilothouse.specialists.improve.data import made
from pilothouse.specialists.improve.edit import (
    Rewriting,
    columns_of,
    first_choices,
    put,
    revert_edit,
    rewritten,
    scaled,
    write_edit,
)
from pilothouse.specialists.improve.edit_spared import Sparing, spared
from pilothouse.specialists.improve.edit_step import EditSettings, check
from pilothouse.specialists.improve.prune import (
    chance,
    comparison_scores,
    kept_alike,
    kept_by_union,
    magnitude,
    narrowed,
    redundancy,
    silence,
    top_kept,
    without_layers,
)
from pilothouse.specialists.improve.step import Context, Made, Plan, step_of
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.weights import read_model_tensors
from pilothouse.store.errors import ArtifactError, UsageError

IDS = [tuple(range(4 + i, 14 + i)) for i in range(4)]
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def model(tiny_folder: Path) -> Any:
    return Qwen3ForCausalLM.from_pretrained(tiny_folder).eval().requires_grad_(False)


def logits(model: Any, ids: tuple[int, ...] = IDS[0]) -> torch.Tensor:
    found: torch.Tensor = model(torch.tensor([ids])).logits
    return found


# -- editing -----------------------------------------------------------------------------------------------


def test_silenced_neurons_are_those_of_a_live_ablation(model: Any) -> None:
    anatomy = Anatomy.of(model)
    places = [Place("neuron", 1, 3), Place("neuron", 1, 17), Place("neuron", 0, 5)]
    from pilothouse.router.locate.edit import Edit, record_edited

    wanted = record_edited(anatomy, IDS[0], [Edit(p) for p in places]).logits
    before = logits(model)
    undo = put(model, scaled(anatomy, places))
    torch.testing.assert_close(logits(model)[0], wanted, atol=1e-5, rtol=1e-5)
    assert not torch.equal(before, logits(model))
    put(model, undo)
    assert torch.equal(before, logits(model))


def test_scale_one_is_no_edit_and_other_places_are_refused(model: Any) -> None:
    anatomy, before = Anatomy.of(model), logits(model)
    put(model, scaled(anatomy, [Place("neuron", 1, 3)], 1.0))
    assert torch.equal(before, logits(model))
    with pytest.raises(UsageError, match=r"L0\.H1 is no neuron"):
        columns_of(anatomy, [Place("head", 0, 1)])


def test_rewriting_brings_the_new_answer_and_leaves_the_rest(model: Any) -> None:
    anatomy, before = Anatomy.of(model), {n: p.clone() for n, p in model.named_parameters()}
    old = first_choices(anatomy, IDS)
    case = Case(IDS[0], (old[0] + 7) % model.config.vocab_size)
    places = [Place("neuron", 1, unit) for unit in range(16)]
    was = [model(torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in IDS[1:]]
    moved = []
    for keep in (0.0, 10.0):
        columns = rewritten(anatomy, places, [case], IDS[1:], Rewriting(steps=80, rate=0.1, keep=keep))
        assert all(torch.equal(p, before[n]) for n, p in model.named_parameters()), "only put() changes it"
        undo = put(model, columns)
        assert first_choices(anatomy, [case.ids]) == [case.answer]
        now = [model(torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in IDS[1:]]
        moved.append(sum(float((a.exp() * (a - b)).sum()) for a, b in zip(was, now, strict=True)))
        put(model, undo)
    assert moved[1] < 0.5 * moved[0]
    put(model, columns)
    changed = model.get_parameter(DOWN) != before[DOWN]
    assert not changed[:, 16:].any()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n != DOWN)


def outspoken(model: Any) -> Any:
    """The model, twenty times as sure of what it says."""
    model.lm_head.weight = torch.nn.Parameter(20 * model.lm_head.weight.detach(), requires_grad=False)
    return model


def test_neurons_scaled_one_by_one_are_each_scaled_as_told(model: Any) -> None:
    anatomy, before = Anatomy.of(model), model.get_parameter(DOWN).clone()
    places = [Place("neuron", 1, 17), Place("neuron", 0, 5), Place("neuron", 1, 3)]
    put(model, scaled(anatomy, places, [0.5, 0.1, 2.0]))
    after = model.get_parameter(DOWN)
    torch.testing.assert_close(after[:, 17], 0.5 * before[:, 17])
    torch.testing.assert_close(after[:, 3], 2.0 * before[:, 3])
    assert int((after != before).any(0).sum()) == 2


def test_a_rewriting_ends_once_the_new_answer_is_likely_enough(model: Any) -> None:
    anatomy = Anatomy.of(outspoken(model))
    case = Case(IDS[0], (first_choices(anatomy, IDS)[0] + 7) % model.config.vocab_size)
    places = [Place("neuron", 1, unit) for unit in range(16)]
    found = []
    for until in (0.5, 0.9):
        undo = put(model, rewritten(anatomy, places, [case], [], Rewriting(200, 0.02, until=until)))
        found.append(float(logits(model)[0, -1].softmax(-1)[case.answer]))
        put(model, undo)
    assert 0.5 <= found[0] < 0.65
    assert 0.9 <= found[1] < 0.95


def test_a_neuron_that_a_fact_needs_is_spared(model: Any) -> None:
    """Two neurons tip one answer over another; one of them alone says a fact after another prompt."""
    anatomy, (one, fact) = Anatomy.of(outspoken(model)), IDS[:2]
    answer, against, other = 33, 21, 40
    weight = torch.nn.functional.normalize(model.lm_head.weight, dim=1)
    for unit, said in ((3, 0.0), (7, 9.0)):
        here, there = (float(record(anatomy, ids).neurons[1, -1, unit]) for ids in (one, fact))
        push = (weight[answer] - weight[against]) / here + said * weight[other] / there
        model.get_parameter(DOWN)[:, unit] = push
    assert first_choices(anatomy, [fact]) == [other]
    case, places = Case(one, answer, against), [Place("neuron", 1, 3), Place("neuron", 1, 7)]
    before = bias(anatomy, [case])
    free = spared(anatomy, places, [case], [], [])
    held = spared(anatomy, places, [case], [fact], [], Sparing(keep=30.0))
    assert first_choices(anatomy, [fact]) == [other], "only put() changes the model"
    assert max(held) <= 1
    assert min(held) >= 0
    assert held[0] < 0.2
    assert held[1] > free[1] + 0.3
    for factors, kept in ((free, False), (held, True)):
        undo = put(model, scaled(anatomy, places, factors))
        assert bias(anatomy, [case]) < 0.7 * before
        assert (first_choices(anatomy, [fact]) == [other]) == kept
        put(model, undo)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_edited_folder_reverts_bit_for_bit(tiny_folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    source = tmp_path / "source"
    Qwen3ForCausalLM.from_pretrained(tiny_folder, dtype=dtype).save_pretrained(source)
    anatomy = Anatomy.of(load_model_folder(source, torch.float32))
    places = [Place("neuron", 1, 3), Place("neuron", 0, 9)]
    write_edit(source, scaled(anatomy, places, 0.3), tmp_path / "edited", {})
    before, after = read_model_tensors(source), read_model_tensors(tmp_path / "edited")
    assert {n for n in before if not torch.equal(before[n], after[n])} == set(columns_of(anatomy, places))
    revert_edit(tmp_path / "edited", tmp_path / "back")
    back = read_model_tensors(tmp_path / "back")
    assert all(torch.equal(back[n], before[n]) and back[n].dtype == dtype for n in before)
    config = tmp_path / "edited" / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(ArtifactError, match="changed after the edit"):
        revert_edit(tmp_path / "edited", tmp_path / "again")


def context(tmp_path: Path, folder: Path, data: dict[str, Any]) -> Context:
    start = Made("trunk", "model", folder, fingerprint(folder))
    return Context(tmp_path / "work", tmp_path / "out", 1, (start,), start, data)


def test_the_edit_step_reports_and_reverts(tiny_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "The boat is", "answer": " small", "against": " river", "subject": "boat"}]
    data = {
        "jobs": made("jobs", rows, "own", "test"),
        "rest": made("rest", [{"prompt": "The capital is Paris."}], "own", "test"),
    }
    step, ctx = step_of("edit"), context(tmp_path, tiny_folder, data)
    figures = step.run(step.settings(what="bias", data="jobs", others="rest", neurons=4, limit=12), ctx)
    assert figures["after"]["data_bias"] < figures["before"]["data_bias"]
    assert figures["before"]["same_choices"] == 1
    assert 1 <= len(figures["neurons"]) <= 4
    revert_edit(ctx.out, tmp_path / "back")
    a, b = read_model_tensors(tmp_path / "back"), read_model_tensors(tiny_folder)
    assert all(torch.equal(a[n], b[n]) for n in b)


def test_the_edit_step_judges_no_row_that_it_holds(tiny_folder: Path, tmp_path: Path) -> None:
    jobs = [{"prompt": "The boat is", "answer": " small", "against": " river", "subject": "boat"}]
    rest = [{"prompt": f"The capital is {name}."} for name in ("Paris", "Rome", "Oslo")]
    data = {
        "jobs": made("jobs", jobs, "own", "test"),
        "rest": made("rest", rest, "own", "test"),
        "facts": made("facts", [{"prompt": "The river is"}], "own", "test"),
    }
    step, ctx = step_of("edit"), context(tmp_path, tiny_folder, data)
    wanted: dict[str, Any] = {"what": "bias", "data": "jobs", "others": "rest", "spare": "facts"}
    figures = step.run(step.settings(**wanted, neurons=6, anchors=2), ctx)
    assert figures["after"]["data_bias"] < figures["before"]["data_bias"]
    assert figures["before"]["same_choices"] == 1
    everything = step.run(step.settings(**wanted, neurons=6, anchors=3), ctx)
    assert "same_choices" not in everything["after"], "no row is left to judge"
    with pytest.raises(UsageError, match="without scale"):
        check(EditSettings(**wanted, scale=0.5), Plan(inputs=(), data=data))


# -- pruning -----------------------------------------------------------------------------------------------


def test_the_union_keeps_each_cases_best_and_all_shallow_layers() -> None:
    scores = [torch.zeros(3, 6), torch.zeros(3, 6)]
    scores[0][1, 2], scores[0][2, 5], scores[1][2, 0], scores[1][0, 0] = 3, 2, 4, 9
    scores[1][2, 1] = 1
    kept = kept_by_union(scores, 2, first=1)
    assert kept[0].all()
    assert kept[1:].nonzero().tolist() == [[0, 2], [1, 0], [1, 1], [1, 5]]
    like = kept_alike(kept, torch.arange(18.0).view(3, 6))
    assert like.sum(1).tolist() == kept.sum(1).tolist()
    assert like[2].nonzero().flatten().tolist() == [3, 4, 5]


def test_a_narrowed_model_computes_what_silence_leaves(model: Any) -> None:
    anatomy = Anatomy.of(model)
    kept = top_kept(chance(anatomy, 3), 0.4)
    assert kept.sum(1).unique().tolist() == [round(0.4 * anatomy.neurons)]
    small = narrowed(model, kept)
    silence(anatomy, kept)
    torch.testing.assert_close(logits(small), logits(model), atol=1e-4, rtol=1e-4)
    assert small.num_parameters() < model.num_parameters()
    with pytest.raises(UsageError, match="one number"):
        narrowed(model, torch.eye(2, anatomy.neurons).bool().logical_or(torch.tensor([[True], [False]])))


def test_all_neurons_kept_is_the_model_itself(model: Any) -> None:
    before = logits(model)
    silence(Anatomy.of(model), torch.ones(2, 48, dtype=torch.bool))
    assert torch.equal(before, logits(model))


def test_planted_neurons_are_found_by_comparison_and_by_magnitude(tiny_folder: Path, model: Any) -> None:
    """A twin in which three neurons write the answer is compared with the model that has them not."""
    twin: Any = Qwen3ForCausalLM.from_pretrained(tiny_folder).eval().requires_grad_(False)
    anatomy, planted = Anatomy.of(twin), [2, 11, 40]
    answer = 33
    run = record(anatomy, IDS[0])
    for unit in planted:
        sign = float(run.neurons[1, -1, unit].sign())
        twin.get_parameter(DOWN)[:, unit] = 8 * sign * twin.lm_head.weight[answer]
    case = Case(IDS[0], answer)
    score = comparison_scores(anatomy, [case], Anatomy.of(model))[0]
    assert sorted(score[1].topk(3).indices.tolist()) == planted
    assert sorted(magnitude(anatomy)[1].topk(3).indices.tolist()) == planted
    drawn = sum(int(chance(anatomy, s)[1].topk(3).indices.tolist() == planted) for s in range(5))
    assert drawn == 0


def test_a_layer_that_does_nothing_is_the_redundant_one(model: Any) -> None:
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        model.get_submodule(f"model.layers.1.{name}").weight.zero_()
    anatomy, before = Anatomy.of(model), logits(model)
    scores = redundancy(anatomy, IDS)
    assert scores[1] == pytest.approx(1, abs=1e-5)
    assert scores[0] < 0.999
    small, stay = without_layers(model, scores, 1)
    assert stay == [0]
    torch.testing.assert_close(logits(small), before, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="2 of 2"):
        without_layers(model, scores, 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"narrow": True, "keep": 0.5},
        {"by": "random", "per_case": 4},
        {"by": "magnitude", "narrow": True, "keep": 0.25},
        {"what": "layers"},
    ],
)
def test_the_prune_step_writes_a_model(settings: dict[str, Any], tiny_folder: Path, tmp_path: Path) -> None:
    text = made("text", [{"text": "Once upon a time a small boat."}] * 2, "own", "test")
    step, ctx = step_of("prune"), context(tmp_path, tiny_folder, {"text": text})
    figures = step.run(step.settings(data="text", rows=2, length=12, **settings), ctx)
    found = load_model_folder(ctx.out)
    assert torch.isfinite(found(torch.tensor([IDS[0]])).logits).all()
    smaller = bool(settings.get("narrow")) or settings.get("what") == "layers"
    assert (figures["parameters_kept"] < 1) == smaller
