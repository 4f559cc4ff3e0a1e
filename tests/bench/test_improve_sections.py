"""What the sections nsds, fusion, shifcon and edit-prune compute beside the methods themselves."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pilothouse.bench.improve import (
    cofitune,
    edit_bias,
    edit_facts,
    factory,
    nsds,
    prune_sums,
    shifcon,
    shifcon_world,
    toys,
)
from pilothouse.bench.improve.fusion import hypervolume
from pilothouse.bench.improve.lab import Lab
from pilothouse.bench.improve.little import decoder, loss_on, text, windows
from pilothouse.bench.locate import arithmetic
from pilothouse.bench.locate.genders import World, trained
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.steer.bias import Trial
from pilothouse.specialists.improve.align import Band
from pilothouse.specialists.improve.answering import answer_all
from pilothouse.specialists.improve.finetune_full import Sft
from pilothouse.specialists.improve.nsds.bits import Rounded
from pilothouse.specialists.improve.nsds.parts import parts_of
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.tokenizing import ChatCodec


def test_the_area_below_a_front_counts_nothing_twice() -> None:
    assert hypervolume([(1.0, 1.0)]) == pytest.approx(1)
    assert hypervolume([(0.5, 0.5), (0.4, 0.4)]) == pytest.approx(0.25)
    assert hypervolume([(1.0, 0.2), (0.5, 0.6), (0.1, 1.0)]) == pytest.approx(0.2 + 0.5 * 0.4 + 0.1 * 0.4)
    assert hypervolume([]) == 0


def test_pooled_ranks_correlate_as_they_are_made() -> None:
    x = torch.randn(12, generator=torch.Generator().manual_seed(0))
    same = list(zip(nsds._ranks(x), nsds._ranks(3 * x + 1), strict=True))
    against = list(zip(nsds._ranks(x), nsds._ranks(-x), strict=True))
    assert nsds.correlation(same, 0).value == pytest.approx(1)
    assert nsds.correlation(against, 0).value == pytest.approx(-1)
    assert abs(nsds.correlation([*same, *against], 0).value) < 1e-9


def test_every_allocation_and_thirty_draws_are_measured() -> None:
    rows = windows(text("test", 40, 0), 32)
    subject = nsds.Subject("toy", decoder(256, 16, 4, 0).eval().requires_grad_(False), rows[:4], rows[4:8])
    cases, pairs = nsds.measured(subject, 0, 5)
    assert len(cases) == 4
    assert all(len(case.random) == 5 and nsds.GREEDY in case.losses for case in cases)
    assert set(cases[0].losses) == {*pairs, nsds.GREEDY}
    assert loss_on(subject.model, subject.test) == pytest.approx(
        loss_on(decoder(256, 16, 4, 0).eval(), rows[:4])
    ), "the model has its own weights again"


def test_every_fact_is_asked_in_two_ways_that_say_no_other_fact() -> None:
    every = [
        edit_facts.asked(o, s, r, 3)
        for o in (0, 1)
        for s in range(edit_facts.SUBJECTS)
        for r in range(edit_facts.RELATIONS)
    ]
    assert len({case.ids for case in every}) == len(every)
    assert all(0 < token < edit_facts.FIRST_OBJECT for case in every for token in case.ids)
    assert {case.answer for case in every} == {edit_facts.FIRST_OBJECT + 3}


def test_controls_of_the_bias_are_shrunk_as_much_as_what_was_located() -> None:
    world = World.draw(3)
    anatomy = Anatomy.of(trained(world, 3, 40))
    seen = Trial(world.trade_cases()[::2], world.fact_cases()[::2], world.neutral(12, 3))
    found = edit_bias.edits(anatomy, seen, 3)
    located, factors = found["located neurons shrunk"]
    assert len(set(located)) == len(factors) == edit_bias.NEURONS
    assert min(factors) < 0.5
    for name in ("general", "random"):
        places, same = found[f"{name} neurons shrunk as much"]
        assert same == factors
        assert len(set(places)) == len(located)
        assert set(places) != set(located)
    assert len(set(found["all neurons silenced"][0])) == anatomy.layers * anatomy.neurons


def test_layers_are_left_out_of_a_model_of_all_sums() -> None:
    rows, weights = prune_sums.all_sums()
    assert len({tuple(row) for row in rows.tolist()}) == arithmetic.PRIME**2
    assert ((rows[:, 0] + rows[:, 1]) % arithmetic.PRIME == rows[:, 3]).all()
    assert weights.sum() == len(rows)
    found = {name: row["right"] for name, row in prune_sums.layers_trial(3, quick=True).items()}
    assert found["without the layer that costs least"] >= found["without the most redundant layer"]


def test_the_weak_languages_are_asked_what_they_were_not_told(tmp_path: Path) -> None:
    world = shifcon_world.draw_world(tmp_path, 0, 2000)
    told = {(row["language"], row["prompt"]) for row in world.rows.rows}
    paired = {row["text"] for row in world.pairs.rows}
    for name in shifcon_world.LOW:
        asked = {prompt for prompt, _ in world.asked[name]}
        assert asked
        assert not any((name, prompt) in told for prompt in asked)
        assert not asked & paired, "nor read beside its English"
        assert all(answer.startswith(name) for _, answer in world.asked[name])
        heard = {row["answer"] for row in world.rows.rows if row["language"] == name}
        assert {answer for _, answer in world.asked[name]} <= heard, "no answer is a word never met"
    facts = shifcon_world.ENTITIES * shifcon_world.RELATIONS
    assert len(world.asked[shifcon_world.DOMINANT]) == facts
    assert {row["language"] for row in world.pairs.rows} == set(shifcon_world.LOW)
    everything = {row["prompt"] for row in shifcon_world.draw_world(tmp_path, 0, 9000).everything.rows}
    assert {prompt for prompt, _ in world.asked["xx"]} <= everything, "the ceiling is told all"


def test_words_of_one_meaning_begin_alike_and_no_others(tmp_path: Path) -> None:
    codec = shifcon_world.codec_in(tmp_path)
    table = shifcon_world.decoder(codec, 0).get_input_embeddings().weight.detach()

    def words(name: str, shift: int = 0) -> torch.Tensor:
        count = shifcon_world.ENTITIES
        named = [shifcon_world.word(name, "e", (i + shift) % count) for i in range(count)]
        return table[[codec.encode_text(one)[0] for one in named]]

    def alike(one: torch.Tensor, other: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(one, other, dim=-1).mean())

    assert alike(words("en"), words("xx")) == pytest.approx(shifcon_world.MEANING, abs=0.15)
    assert alike(words("xx"), words("xx", 1)) == pytest.approx(shifcon_world.LANGUAGE, abs=0.15)
    assert abs(alike(words("en"), words("xx", 1))) < 0.15


def test_ways_that_train_alike_train_once() -> None:
    alike = next(names for names in shifcon.trained_alike() if shifcon.FULL in names)
    assert set(alike) == {
        shifcon.FULL,
        "ShifCon, answered without the way back",
        "ShifCon, vectors taken anew",
    }
    assert sorted(name for names in shifcon.trained_alike() for name in names) == sorted(shifcon.WAYS)
    vectors = {name: torch.full((1, 1), float(i)) for i, name in enumerate(shifcon_world.LANGUAGES)}
    wrong = shifcon.swapped(vectors, shifcon.WAYS["ShifCon, the wrong language's vectors"])
    assert wrong[shifcon_world.DOMINANT] is vectors[shifcon_world.DOMINANT]
    assert all(wrong[name] is not vectors[name] for name in shifcon_world.LOW)
    assert shifcon.swapped(vectors, shifcon.WAYS[shifcon.FULL]) is vectors
    last = shifcon_world.LAYERS - 1
    assert shifcon.other_band(Band(0, 3)) == Band(last - 3, last)
    assert shifcon.other_band(Band(last - 3, last)) == Band(0, 3)


def test_no_allocation_is_measured_twice_and_none_is_taken_for_another() -> None:
    model = decoder(256, 16, 3, 0).eval().requires_grad_(False)
    rows = windows(text("test", 40, 0), 32)[:2]
    asked: list[int] = []

    def loss() -> float:
        asked.append(1)
        return loss_on(model, rows)

    names = [p.names for p in parts_of(model)]
    kept, plain = nsds.Remembered(model, names, 32, "nearest"), Rounded(model, names, 32, "nearest")
    for bits in ([2, 4, 4], [4, 4, 2], [2, 4, 4], [4, 4, 2]):
        assert kept.loss(bits, loss) == plain.loss(bits, lambda: loss_on(model, rows))
    assert len(asked) == 2


def test_all_tasks_judged_at_once_are_judged_as_one_by_one(tmp_path: Path) -> None:
    codec = toys.codec_in(tmp_path)
    model = toys.decoder(codec, 2, 32, 0)
    known = toys.draw(("copy",), "train", 600, 0)
    toys.trained(codec, model, known, Sft(rows=32, steps=60, rate=5e-3, seed=0), tmp_path / "work")
    judges = {"test": {task: toys.draw((task,), "test", 20, 0) for task in ("copy", "next", "first")}}
    here = cofitune.World(codec, model, toys.state_of(model), [], judges, cofitune.Size(), 0)
    found = here.judge("test")
    assert found == {t: toys.right(codec, model, pairs) for t, pairs in judges["test"].items()}
    assert sum(found["copy"]) > sum(found["next"])


def little_world(folder: Path, knows: str) -> cofitune.World:
    """A decoder that knows one task, which is called the new one; the old ones are asked for as well."""
    codec = toys.codec_in(folder)
    model = toys.decoder(codec, 2, 32, 0)
    pairs = toys.draw((knows,), "train", 600, 0)
    toys.trained(codec, model, pairs, Sft(rows=32, steps=60, rate=5e-3, seed=0), folder / "base")
    judges = {"fit": {cofitune.NEW: toys.draw((knows,), "fit", 20, 0)}}
    return cofitune.World(codec, model, toys.state_of(model), pairs, judges, cofitune.Size(steps=40), 0)


def test_training_stops_where_the_new_task_is_learnt(tmp_path: Path) -> None:
    here, lab = little_world(tmp_path, "first"), Lab(tmp_path, (0,), False, lambda line: None)
    tick = cofitune.until_learnt(here, here.model)
    tick(cofitune.LOOK - 1, 40)
    with pytest.raises(cofitune.Learnt):
        tick(cofitune.LOOK, 40)
    cofitune.train(lab, here, "full", 1e-3)
    assert all(p.requires_grad for p in here.model.parameters())
    assert not list((tmp_path / "models").rglob("step.json")), "it was stopped before its end"
    harder = replace(here, judges={"fit": {cofitune.NEW: toys.draw(("mirror",), "fit", 20, 0)}})
    cofitune.until_learnt(harder, here.model)(cofitune.LOOK, 40)


def test_damage_is_found_where_it_was_done(tmp_path: Path) -> None:
    here = little_world(tmp_path, "first")
    name = "model.layers.1.mlp.up_proj.weight"
    parameter = dict(here.model.named_parameters())[name]
    found = {}
    for way in (1.0, -1.0):
        here.reset()
        with torch.no_grad():
            parameter[5] += way * 1e-3
        found[way] = cofitune.damage(here, [name])[name.removesuffix(".weight")]
        assert found[way][5] != 0
        assert not found[way][torch.arange(len(parameter)) != 5].any()
    assert found[1.0][5] * found[-1.0][5] < 0, "one way adds to the loss, the other takes from it"


def test_a_mask_arranged_by_hindsight_has_the_same_values() -> None:
    found = {"a": torch.tensor([0.1, 0.9, 0.5]), "b": torch.tensor([0.2, 0.4])}
    made = cofitune.arranged(found, {"a": torch.tensor([3.0, -1.0, 2.0])})
    assert made["a"].tolist() == pytest.approx([0.9, 0.1, 0.5])
    assert torch.equal(made["b"], found["b"])


def test_the_factorys_trunk_ends_its_answers(tmp_path: Path) -> None:
    factory.prepare(tmp_path, 0, factory.Shape(32, 2, 6, 8, 40))
    codec = ChatCodec.load(tmp_path / "trunk")
    model = load_model_folder(tmp_path / "trunk", torch.float32)
    prompts = [codec.encode_prompt(p) for p, _ in toys.draw(("mirror", "reverse"), "train", 40, 0)]
    found = answer_all(model, prompts, codec.invocation[0], codec.end, 8)
    assert sum(one.ended for one in found) > 20


def test_a_build_is_killed_behind_so_many_lines_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = (
        "import sys, time\n"
        "for i in range(int(sys.argv[2])):\n"
        "    print(f'[00:00:00] line {i}', file=open(sys.argv[1] + '/run.log', 'a'))\n"
        "    time.sleep(float(sys.argv[3]))\n"
    )

    def command(_recipe: Path, work: Path) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", writes, str(work), lines, pause]

    monkeypatch.setattr(factory, "command", command)
    lines, pause = "1000", "0.02"
    assert factory.kill(tmp_path, tmp_path, 3, 0.0)
    first = len(factory._lines(tmp_path / "run.log"))
    assert 3 <= first < 1000
    assert factory.kill(tmp_path, tmp_path, 2, 0.0)
    assert first + 2 <= len(factory._lines(tmp_path / "run.log")) < 1000
    lines, pause = "2", "0"
    assert not factory.kill(tmp_path, tmp_path, 50, 0.0), "it came to its end before"
