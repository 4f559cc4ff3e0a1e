"""Vectors of the recipe: judgements of an answer, lessons, and a vector that really steers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists.adapters import AdapterBank
from pilothouse.specialists.improve.finetune import Learner, Tuning
from pilothouse.specialists.starter import steering
from pilothouse.specialists.starter.skills import translate
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.specialists.starter.steering import Bench, in_tongue, refuses, settle, talks
from pilothouse.specialists.starter.work import Work
from pilothouse.specialists.tokenizing import ChatCodec

ANSWER = "eeeeeeeeeeee"


def asked(prompt: str) -> Example:
    return Example(prompt, "", "stories", "about", "t", "open")


PROMPTS = [
    asked(f"Tell me {word}.") for word in ("a tale", "the log", "of Paris", "hello", "the wheel", "more")
]


@pytest.fixture
def bench(tiny_folder: Path) -> Iterator[Bench]:
    """The tiny trunk with a small random carrier."""
    model = Qwen3ForCausalLM.from_pretrained(tiny_folder)
    model.train(False)
    learner = Learner(model, Tuning(rank=2, alpha=2, seed=1))
    for b in learner.b:
        b.data.normal_(std=0.05, generator=torch.Generator().manual_seed(2))
    bank = AdapterBank(model)
    bank.add(learner.adapter(steering.CARRIER, (2,)))
    yield Bench(model, ChatCodec.load(tiny_folder), bank)
    bank.close()


# -- judgements --------------------------------------------------------------------------------------------


@pytest.fixture
def two_tongues(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"fr": "le chat dort dans jardin petit table", "en": "the cat sleeps in garden small table"}
    monkeypatch.setattr(translate, "vocabulary", lambda code: frozenset(words[code].split()))


@pytest.mark.usefixtures("two_tongues")
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Le chat dort dans le jardin.", True),
        ("¡Le «chat» dort, petit chat!", True),
        ("The cat sleeps in the garden.", False),
        ("le chat dort", False),  # too short to tell
        ("table table table table", False),  # the words of both languages tell nothing
        ("le chat xx yy zz", False),  # mostly strangers
        ("le chat sleeps in the small garden", False),
        ("", False),
    ],
)
def test_a_text_is_in_the_tongue_that_most_of_its_words_are(text: str, verdict: bool) -> None:
    assert in_tongue("fr")(text) is verdict


def test_a_refusal_is_known_by_its_words() -> None:
    assert refuses(steering.REFUSAL)
    assert refuses("Sorry, I CAN'T HELP you.")
    assert not refuses("I can help with that.")
    assert not refuses("")


def test_speech_needs_two_pairs_of_marks() -> None:
    assert talks('"Hi," said Tom. "Hello," said Ann.')
    assert not talks('He said "no" and left.')
    assert not talks("Nobody spoke.")
    assert not talks('"Hi there," said Tom. ' * 8)  # speech that loops is no story
    assert not talks("Once there was a little" + '."' * 20)  # marks are no speech
    assert not talks('She ate food." One day, her mother came." She was glad." The end."')  # nothing opens
    assert not in_tongue("fr")("le chat est grand. " * 8)


# -- lessons -----------------------------------------------------------------------------------------------


def test_only_answers_carry_labels(bench: Bench) -> None:
    batch = bench.batch([((1, 10, 3), (20, 21)), ((1, 11, 3), (30,))])
    assert batch["input_ids"].tolist() == [[1, 10, 3, 2, 20, 21, 3], [1, 11, 3, 2, 30, 3, 3]]
    ignored = [-100] * 4
    assert batch["labels"].tolist() == [[*ignored, 20, 21, 3], [*ignored, 30, 3, -100]]


def test_lessons_of_a_batch_have_prompts_of_one_length(bench: Bench) -> None:
    found = bench.lessons([(row, ANSWER) for row in PROMPTS], rows=2)
    assert sum(len(b["input_ids"]) for b in found) == len(PROMPTS)
    for batch in found:
        assert len(batch["input_ids"]) <= 2
        starts = {int((row != -100).nonzero()[0]) for row in batch["labels"]}
        assert len(starts) == 1
        assert set(batch["input_ids"][:, starts.pop() - 1].tolist()) == {2}


# -- vectors -----------------------------------------------------------------------------------------------


@pytest.fixture
def trained(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> SteeringVector:
    """A vector taught to give one answer on the first four prompts."""
    monkeypatch.setattr(steering, "EPOCHS", 60)
    monkeypatch.setattr(steering, "LIMIT", 3.0)
    monkeypatch.setattr(steering, "RATE", 0.2)
    vector = bench.train([(row, ANSWER) for row in PROMPTS[:4]], 1, seed=0)
    return SteeringVector("fixed", "add", 1, 1.0, "generation", vector)


def test_a_trained_vector_says_the_fixed_answer_and_a_random_one_does_not(
    bench: Bench, trained: SteeringVector
) -> None:
    assert len(bench.codec.encode_text(ANSWER)) == len(ANSWER)
    assert "eeee" not in bench.answers(PROMPTS, [], 4)
    assert bench.answers(PROMPTS[4:], [trained], 4) == ["eeee"] * 2  # on prompts that it never saw
    for seed in range(3):
        noise = torch.randn(32, generator=torch.Generator().manual_seed(seed))
        noise *= trained.vector.norm() / noise.norm()
        control = SteeringVector("random", "add", 1, 1.0, "generation", noise)
        assert "eeee" not in bench.answers(PROMPTS, [control], 4)


def test_training_leaves_the_model_as_it_was(bench: Bench, trained: SteeringVector) -> None:
    assert all(p.requires_grad and p.grad is None for p in bench.model.parameters())
    size = bench.state_length(bench.lessons([(PROMPTS[0], ANSWER)])[0], 1)
    assert float(trained.vector.norm()) <= 3.0 * size * 1.5  # within the limit, whichever batch measured it
    assert bench.bank.now is None


def test_steering_ends_with_the_answers(bench: Bench, trained: SteeringVector) -> None:
    before = bench.answers(PROMPTS, [], 6)
    assert bench.answers(PROMPTS, [trained], 6) != before
    assert bench.answers(PROMPTS, [], 6) == before


def test_a_vector_costs_loss_on_other_answers(bench: Bench, trained: SteeringVector) -> None:
    cost = bench.cost(bench.lessons([(row, "A small boat. " * 3) for row in PROMPTS]))
    nothing = SteeringVector("tiny", "add", 1, 1e-6, "generation", trained.vector)
    assert abs(cost(nothing)) < 1e-3
    assert cost(trained) > 0.1


@pytest.mark.parametrize("works", [True, False])
def test_only_a_vector_that_works_is_kept(
    bench: Bench, trained: SteeringVector, tmp_path: Path, works: bool
) -> None:
    work = Work(tmp_path / "w", tmp_path)
    before = bench.answers(PROMPTS, [], 110)
    changed = steering.Target("reading", PROMPTS, lambda text: works and text not in before)
    settle(work, bench, trained, changed, bench.lessons([(PROMPTS[0], "a boat")]), (0.5, 1.0))
    folder = work.path("vectors", "fixed")
    assert folder.is_dir() == works
    log = work.path("run.log").read_text()
    assert "vector fixed: " in log
    assert log.count("effect") >= 3  # the choice, and each strength that was tried
    if works:
        kept = SteeringVector.load(folder)
        assert kept.coefficient in (0.5, 1.0)
        assert kept.meta["reading"] == "reading"
        assert kept.meta["effect"]["off"] == 0.0
        assert torch.equal(kept.vector, trained.vector)
