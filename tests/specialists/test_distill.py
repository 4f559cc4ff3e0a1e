"""A student learns its teacher: closer than it started, closer than one taught by shuffled answers."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.adapters import AdapterBank
from pilothouse.specialists.improve import distill as kd
from pilothouse.specialists.improve.answering import answer_all
from pilothouse.specialists.improve.distill import Distilling, distill, shallow, soft_loss
from pilothouse.specialists.improve.finetune import Row, Tuning, train_adapter
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.specialists.tokenizing import ChatCodec

WORDS = ("boat", "river", "log", "wheel", "course", "pilot", "time", "hello")
LABELS = ("the answer", "Paris", "course")


def lesson(prompt: str) -> Example:
    """A planted rule: the first word decides the label."""
    return Example(prompt, LABELS[WORDS.index(prompt.split()[0]) % 3], "label", "label", "t", "label")


def lessons(count: int, seed: int) -> list[Example]:
    rng = random.Random(seed)
    return [lesson(" ".join(rng.choices(WORDS, k=3))) for _ in range(count)]


@pytest.fixture(scope="module")
def teacher(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AdapterBank, ChatCodec]:
    folder, codec = tmp_path_factory.mktemp("teacher"), ChatCodec.load(tiny_folder)
    model = Qwen3ForCausalLM.from_pretrained(tiny_folder)
    tuning = Tuning(rank=16, rate=2e-2, rows=16, steps=100, warmup=5)
    train_adapter(model, codec, lessons(200, 1), tuning, folder / "w", folder / "a")
    model.train(False)
    bank = AdapterBank(model)
    bank.load("label", folder / "a")
    return bank, codec


def answers(model: object, codec: ChatCodec, active: object = None) -> list[tuple[int, ...]]:
    prompts = [codec.encode_prompt(e.prompt) for e in lessons(60, 2)]
    extra = {} if active is None else {"active": active}
    return [a.tokens for a in answer_all(model, prompts, 2, 3, 8, **extra)]  # type: ignore[arg-type]


PLAN = Distilling(rows=16, steps=120, rate=1e-2, warmup=5, every=60, answers=8, top=16)


def test_a_student_answers_like_its_teacher_and_a_shuffled_one_does_not(
    teacher: tuple[AdapterBank, ChatCodec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, codec = teacher
    wanted = answers(bank.model, codec, lambda: bank.active("label"))
    assert len(set(wanted)) == 3

    def agreement(name: str) -> float:
        student = shallow(bank.model, [1])
        before = answers(student, codec)
        distill(bank, "label", codec, lessons(200, 3), student, PLAN, tmp_path / name, tmp_path / f"{name}.s")
        loaded = load_model_folder(tmp_path / f"{name}.s", torch.float32)
        assert loaded.num_parameters() < bank.model.num_parameters()
        assert sum(a == b for a, b in zip(before, wanted, strict=True)) < 20
        return sum(a == b for a, b in zip(answers(loaded, codec), wanted, strict=True)) / len(wanted)

    taught = agreement("taught")
    real_teach, real_plan = kd.teach, PLAN

    def shuffled(*args: object) -> list[Row]:
        rows = real_teach(*args)  # type: ignore[arg-type]
        given = [r.answer for r in rows]
        random.Random(0).shuffle(given)
        return [Row(r.prompt, a) for r, a in zip(rows, given, strict=True)]

    monkeypatch.setattr(kd, "teach", shuffled)
    monkeypatch.setitem(globals(), "PLAN", dataclasses.replace(real_plan, soft=0.0))
    control = agreement("shuffled")
    assert taught > 0.9
    assert control < 0.6


def test_the_soft_loss_is_zero_only_at_the_teacher() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(5, 30)
    assert float(soft_loss(teacher, teacher, 8, 2.0)) == pytest.approx(0, abs=1e-5)
    assert float(soft_loss(teacher + 3.0, teacher, 8, 2.0)) == pytest.approx(0, abs=1e-5)
    assert float(soft_loss(torch.randn(5, 30), teacher, 8, 2.0)) > 0.1
    whole = torch.nn.functional.kl_div(
        torch.zeros(5, 30).log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert float(soft_loss(torch.zeros(5, 30), teacher, 29, 1.0)) == pytest.approx(float(whole), rel=1e-4)


def test_a_full_depth_student_is_the_teacher(tiny_model: Qwen3ForCausalLM) -> None:
    tokens = torch.arange(4, 20)[None]
    with torch.no_grad():
        assert torch.allclose(
            shallow(tiny_model, [0, 1])(tokens).logits, tiny_model(tokens).logits, atol=1e-6
        )
    with pytest.raises(ValueError, match="0 to 1"):
        shallow(tiny_model, [2])
