"""The whole recipe at toy sizes: every step is wired to the next, and the sealed family opens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedModel, Qwen3Config

from pilothouse.router.steer.make import Strength
from pilothouse.specialists.engines.base import Sampling
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.answering import Answered, Switch, answer_all
from pilothouse.specialists.improve.finetune import Tuning
from pilothouse.specialists.improve.pretrain import Schedule, Stage, pretrain
from pilothouse.specialists.improve.verify import Floor
from pilothouse.specialists.starter import (
    __main__,
    corpus,
    features,
    language,
    makers,
    pack,
    probing,
    quantizing,
    recipe,
    steering,
    student,
    verifying,
)
from pilothouse.specialists.starter.skills import freeform, translate
from pilothouse.specialists.starter.skills.example import Example, bucket
from pilothouse.specialists.starter.work import Work
from pilothouse.store.records import Message

separating, free, everyday = steering.speech_features, freeform.examples, translate.monolingual

TALE = (
    'A brave rabbit and a cat met in the park. "Do you like my ball?" asked the rabbit. "Yes!" said the cat.'
)
MIXED = dict.fromkeys(language.STREAM_TOKENS, 1.0) | {"screening": 20.0}
STAGES = (Stage("english", 8 * 32 * 4, {"english": 1.0}), Stage("mixed", 8 * 32 * 100, MIXED))
TINY = Schedule(rows=8, length=32, rate=1e-2, warmup=2, every=50, stages=STAGES)


def tiny_trunk(tokenizer: Tokenizer) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=24,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=3,
        pad_token_id=0,
    )


def planted(example: Example, answer: str) -> bool:
    """An untrained model is never right, and no probe can be fitted on outcomes of one kind."""
    return bucket(example.prompt) % 2 == 0


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make every step of the recipe toy-sized; what the steps do is left alone."""
    patch.setattr(language, "VOCABULARY", 400)
    patch.setattr(language, "STREAM_TOKENS", dict.fromkeys(language.STREAM_TOKENS, 1500))
    patch.setattr(language, "TRUNK", TINY)
    patch.setattr(language, "PASSES", dict.fromkeys(language.PASSES, TINY))
    patch.setattr(language, "trunk_config", tiny_trunk)
    patch.setattr(language, "pretrain", partial(pretrain, compiled=False))
    course = makers.Course(40, Tuning(rank=2, steps=2, rows=4), 3)
    patch.setattr(makers, "COURSES", dict.fromkeys(makers.COURSES, course))
    patch.setattr(makers, "RIDES", dict.fromkeys(makers.RIDES, course))
    patch.setattr(makers, "JUDGED", 4)
    patch.setattr(makers, "correct", planted)
    shrink_student(patch)
    patch.setattr(quantizing, "READ", 4)
    patch.setattr(verifying, "FLOOR", Floor(auroc=0.0, drift=1.0, missed=9.0, effect=-1.0))
    patch.setattr(verifying, "TEXTS", 24)
    patch.setattr(probing, "EACH", {"fit": 10, "calibrate": 10})
    patch.setattr(probing, "OTHERS", {"fit": 20, "calibrate": 20})
    patch.setattr(recipe, "LAYERS", ((1,), (0, 1)))
    for name, value in {"LATENTS": 24, "ACTIVE": 4, "STEPS": 5}.items():
        patch.setattr(features, name, value)
    patch.setattr(steering, "LAYER", 0)
    patch.setattr(steering, "EPOCHS", 1)
    patch.setattr(pack, "RISKS", (0.98,))
    patch.setattr(language, "sample_stories", lambda work: None)
    patch.setattr(freeform, "examples", lambda split, count, seed, data: free(split, 40, seed, data))
    patch.setattr(translate, "monolingual", lambda code, count, seed: everyday(code, 60, seed))
    patch.setattr(translate, "vocabulary", lambda code: frozenset({code}))  # all words take seconds to list
    shrink_steering(patch)


def shrink_student(patch: pytest.MonkeyPatch) -> None:
    # a teacher whose answers do not end teaches nothing
    patch.setattr(student, "TEACHER", {**student.TEACHER, "rank": 8, "steps": 60, "rows": 16})
    patch.setattr(student, "RATE", 3e-2)
    few = {"rows": 4, "steps": 2}
    taught = {"layers": (0, 1), "labelled": 10, "router_steps": 2, "longest": 40}
    patch.setattr(student, "PERSYN", {**student.PERSYN, **few, **taught})
    patch.setattr(student, "SELECTIVE", {**student.SELECTIVE, **few, "search_steps": 1})
    patch.setattr(student, "QUANTIZE", {**student.QUANTIZE, "rows": 4})
    patch.setattr(student, "LESSONS", 60)
    patch.setattr(student, "JUDGED", 24)


def shrink_steering(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steering, "choose_strength", kept)
    patch.setattr(steering, "answer_all", briefly)
    patch.setattr(steering, "tongue_pairs", partial(steering.tongue_pairs, count=6))
    patch.setattr(steering, "neutral_batches", partial(steering.neutral_batches, count=4))
    patch.setattr(steering, "speech_features", lambda work, bench, count: separating(work, bench, 3))


def briefly(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    invocation: int,
    end: int,
    max_tokens: int,
    active: Switch,
) -> list[Answered]:
    return answer_all(model, prompts, invocation, end, 4, active)


def kept(one: object, effect: object, cost: object, **settings: object) -> Strength:
    """An untrained model follows no vector, so that a choice of strength would leave none to pack."""
    return Strength(1.0, "planted", ())


@pytest.fixture
def tiny_work(tiny_data: Path, tmp_path: Path) -> Work:
    """A work folder over the tiny data, the teacher's stories already in it."""
    work = Work(tmp_path / "work", tiny_data)
    tales = [f"Story {i}. {TALE}" for i in range(700)]
    (work.sources / "stories.txt").write_text(corpus.STORY_BREAK.join(tales))
    return work


def test_the_whole_recipe_makes_a_sealed_family(
    tiny_work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch)
    recipe.run(tiny_work, tmp_path / "family")
    family = Family.open(tmp_path / "family")
    family.verify()
    assert tuple(family.cards) == (*makers.COURSES, "help")
    assert family.card("screening").kind == "student"
    assert family.bank is not None
    assert set(family.bank.specialists) == {*makers.COURSES, "help"}
    assert set(family.vectors) == {"refuse", *probing.STYLED}
    assert family.policy is not None
    family.policy.with_vectors(family.vectors).require(family.cards, probing.READINGS)
    assert family.sae is not None
    assert family.sae.layer == family.scout_layers[-1] == max(probing.scout_layers(tiny_work))
    assert answered(family) == {"stories", "screening"}
    trunk = json.loads((family.trunk_folder / "quantization.json").read_text())
    assert (trunk["allocation"], trunk["solver"], sorted(trunk["layers"])) == ("nsds", "gptq", [4, 8])
    verified = json.loads(tiny_work.path("verify.json").read_text())
    assert {one["verdict"] for one in verified.values()} == {"holds"}
    before = (tmp_path / "family" / "manifest.json").stat()
    recipe.run(tiny_work, tmp_path / "family")
    assert (tmp_path / "family" / "manifest.json").stat() == before
    log = tiny_work.path("run.log").read_text().splitlines()
    assert sum(line.endswith("already done") for line in log) == len(recipe.steps(tmp_path))


def answered(family: Family) -> set[str]:
    """Let the steered storyteller and the student answer through the engine; name those that gave tokens."""
    engine, found = TorchEngine(family), set()
    vectors = {"stories": tuple(family.vectors.values()), "screening": ()}
    try:
        tokens = engine.encode_chat([Message(role="user", content="2 + 2")])
        prefill = engine.probe(tokens, family.scout_layers)
        for name, steering_vectors in vectors.items():
            if list(engine.generate(prefill, name, Sampling(max_tokens=3), steering_vectors)):
                found.add(name)
    finally:
        engine.close()
    return found


def test_steps_have_names_of_their_own_and_one_adapter_a_course(tmp_path: Path) -> None:
    names = [step.name for step in recipe.steps(tmp_path)]
    assert len(set(names)) == len(names)
    riders = [name for name in makers.COURSES if name != makers.STUDENT]
    assert [n for n in names if n.startswith("adapter-")] == [f"adapter-{name}" for name in riders]
    assert [n for n in names if n.startswith("ride-")] == [f"ride-{name}" for name in riders]
    order = [
        "trunk",
        "adapter-stories",
        "student",
        "quantize",
        "ride-stories",
        "outcomes",
        "layers",
        "vectors",
        "styled",
        "probes",
        "policy",
        "verify",
        "pack",
    ]
    assert sorted(order, key=names.index) == order  # later ones read what earlier ones left


def test_a_step_that_does_not_exist_is_refused(tmp_path: Path, tiny_data: Path) -> None:
    with pytest.raises(ValueError, match="no step 'trunks': the steps are stories, tokenizer"):
        recipe.run(Work(tmp_path / "w", tiny_data), tmp_path / "family", until="trunks")


def test_the_command_passes_on_what_was_asked(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(__main__, "run", lambda *given: calls.append(given))
    given = {"data": tiny_data, "work": tmp_path / "w", "out": tmp_path / "f", "seed": 4, "until": "trunk"}
    monkeypatch.setattr("sys.argv", ["starter", *(str(p) for k, v in given.items() for p in (f"--{k}", v))])
    __main__.main()
    ((work, target, until, *_),) = calls
    assert isinstance(work, Work)
    assert (work.folder, work.data, work.seed) == (tmp_path / "w", tiny_data, 4)
    assert (target, until) == (tmp_path / "f", "trunk")


def test_the_command_refuses_a_data_folder_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["starter", "--data", str(tmp_path / "gone"), "--work", str(tmp_path / "w")]
    )
    with pytest.raises(SystemExit, match="2"):
        __main__.main()
    assert "gone is no folder" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
