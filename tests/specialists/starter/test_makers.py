"""Specialists of the recipe: what is drawn, what is really answered, and what is remembered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.adapters import AdapterBank, read_adapter, save_adapter
from pilothouse.specialists.improve.finetune import Learner, Tuning
from pilothouse.specialists.starter import corpus, language, makers
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.specialists.starter.work import Work
from pilothouse.specialists.tokenizing import ChatCodec


@pytest.fixture
def work(tmp_path: Path, tiny_data: Path, tiny_folder: Path) -> Work:
    """A run whose trunk is the tiny one, with one adapter that changes answers."""
    found = Work(tmp_path / "work", tiny_data)
    shutil.copytree(tiny_folder, found.path("trunk"))
    model = Qwen3ForCausalLM.from_pretrained(tiny_folder)
    learner = Learner(model, Tuning(rank=2, alpha=2))
    for b in learner.b:
        b.data.normal_(std=0.5, generator=torch.Generator().manual_seed(2))
    save_adapter(learner.adapter("facts", (2,)), 2, "trunk", found.path("adapters", "facts"))
    return found


def test_judging_runs_the_specialist_and_judges_its_own_words(work: Work) -> None:
    rows = [Example(p, "", "facts", "capital", "t", "exact") for p in ("Of France?", "Of Spain?", "Hello")]
    codec = ChatCodec.load(work.path("trunk"))
    model, bank = makers.answerer(work, "facts")
    said = makers.judge(model, codec, "facts", rows, bank, 5)
    bare = makers.judge(model, codec, "facts", rows, None, 5)
    assert [one.answer for one in said] != [one.answer for one in bare]
    # the model is right exactly where the reference is what it says
    rows = [Example(o.example.prompt, o.answer, "facts", "capital", "t", "exact") for o in said]
    rows[1] = Example(rows[1].prompt, "something else", "facts", "capital", "t", "exact")
    again = makers.judge(model, codec, "facts", rows, bank, 5)
    assert [one.correct for one in again] == [True, False, True]
    assert all(one.mean_logprob < 0 for one in again)
    assert {one.specialist for one in again} == {"facts"}


def test_the_student_answers_with_its_own_weights(work: Work) -> None:
    shutil.copytree(work.path("trunk"), work.path("student"))
    model, bank = makers.answerer(work, makers.STUDENT)
    assert bank is None
    assert isinstance(makers.answerer(work, "facts")[1], AdapterBank)
    assert next(model.parameters()).dtype == torch.float32


def test_outcomes_cover_own_prompts_and_all_others_where_it_calibrates(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(makers, "COURSES", {"facts": makers.Course(1, Tuning(), 2)})
    makers.collect_outcomes(work, "calibrate", 6, 8)
    outcomes = list(makers.read_outcomes(work.path("outcomes", "calibrate", "facts.jsonl")))
    asked = makers.mixture(work, "calibrate", 6, 8)
    own = [o.example for o in outcomes if o.example.skill == "facts"]
    assert own == [e for e in asked if e.skill == "facts"]
    foreign = [o.example for o in outcomes if o.example.skill != "facts"]
    assert foreign == [e for e in asked if e.skill != "facts" and e.answer]
    assert not {e.skill for e in foreign} & {"help", "outside"}  # no answer to be judged by
    makers.collect_outcomes(work, "fit", 6, 8)
    fitted = makers.read_outcomes(work.path("outcomes", "fit", "facts.jsonl"))
    assert {o.example.skill for o in fitted} == {"facts"}
    before = work.path("outcomes", "calibrate", "facts.jsonl").stat()
    makers.collect_outcomes(work, "calibrate", 6, 8)
    assert work.path("outcomes", "calibrate", "facts.jsonl").stat() == before


def test_the_mixture_draws_every_skill_evenly(work: Work) -> None:
    rows = makers.mixture(work, "fit", 5, 7)
    written = [row for row in rows if row.template != "freeform"]
    counts = {skill: sum(row.skill == skill for row in written) for skill in (*corpus.SKILLS, "outside")}
    assert counts == dict.fromkeys(corpus.SKILLS, 5) | {"outside": 7}
    assert any(row.template == "freeform" for row in rows)
    assert makers.mixture(work, "fit", 5, 7) == rows


def test_a_specialist_learns_in_its_own_folder_and_leaves_the_trunk(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = makers.Course(30, Tuning(rank=2, steps=2, rows=4), 4)
    for name in ("COURSES", "RIDES"):
        monkeypatch.setattr(makers, name, {"arithmetic": course})
    monkeypatch.setattr(makers, "JUDGED", 4)
    shutil.copytree(work.path("trunk"), work.path(language.FULL))
    before = {folder: weights(work, folder) for folder in ("trunk", language.FULL)}
    makers.train_specialist(work, "arithmetic")
    first = read_adapter("a", work.path("adapters.bf16", "arithmetic"), torch.float32, torch.device("cpu"))
    makers.ride_specialist(work, "arithmetic")
    model, _ = makers.open_trunk(work)
    bank = AdapterBank(model)
    small = bank.load("arithmetic", work.path("adapters", "arithmetic"))
    assert small.rank == 2
    for name, product in small.products.items():  # it went on from there, and is stored in 4 bits
        assert torch.cosine_similarity(product.a.flatten(), first.products[name].a.flatten(), dim=0) > 0.9
    assert {folder: weights(work, folder) for folder in before} == before
    log = work.path("run.log").read_text()
    assert "arithmetic: step 2/2" in log
    assert "ride arithmetic: step 2/2" in log
    assert "arithmetic: rides 0, adapters.bf16 0 of" in log  # nobody is better: the second part stays
    assert "arithmetic: rides, 0." in log


def test_the_part_that_answers_less_is_not_taken(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = work.path("adapters", "facts")
    right = {True: [True, True], False: [True, False]}

    def judged(
        model: object, codec: object, name: str, own: list[Example], bank: object, longest: int
    ) -> list[makers.Outcome]:
        return [makers.Outcome(name, e, "", 0.0, ok) for e, ok in zip(own[:2], next(turns), strict=True)]

    monkeypatch.setattr(makers, "JUDGED", 4)
    monkeypatch.setattr(makers, "judge", judged)
    for first, second in ((True, False), (False, True), (True, True)):
        turns = iter((right[first], right[second]))
        assert makers.answers_more(work, "facts", folder, folder) == (first >= second)


def weights(work: Work, folder: str) -> bytes:
    return (work.path(folder) / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", list(makers.COURSES))
def test_every_course_is_a_skill_with_lessons(tiny_data: Path, name: str) -> None:
    rows = corpus.draw(name, "train", 40, 1, tiny_data)
    assert sum(bool(row.answer) for row in rows) >= 30
    assert {row.skill for row in rows} == {name}
