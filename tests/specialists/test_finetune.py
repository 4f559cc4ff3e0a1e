"""Adapters are learned on answers only, resume exactly, and mean to peft what they mean here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.adapters import AdapterBank, read_adapter, save_adapter
from pilothouse.specialists.improve import finetune
from pilothouse.specialists.improve.finetune import (
    Learner,
    Row,
    Tuning,
    answer_logits,
    collate,
    train_adapter,
)
from pilothouse.specialists.tokenizing import ChatCodec


@dataclass(frozen=True)
class Pair:
    prompt: str
    answer: str
    history: tuple[tuple[str, str], ...] = ()


LESSONS = [Pair(f"say {w}", w[::-1]) for w in ("boat", "river", "log", "wheel", "course", "pilot")]
LESSONS.append(Pair("and again", "tar", (("say rat", "tar"),)))
QUICK = Tuning(rank=8, alpha=16, rate=2e-2, rows=4, steps=60, warmup=4, every=20)


@pytest.fixture
def codec(tiny_folder: Path) -> ChatCodec:
    return ChatCodec.load(tiny_folder)


def test_peft_reads_the_adapter_and_agrees(
    tiny_model: Qwen3ForCausalLM, tiny_folder: Path, codec: ChatCodec, tmp_path: Path
) -> None:
    loss = train_adapter(
        tiny_model, codec, LESSONS, QUICK, tmp_path / "w", tmp_path / "a", base=str(tiny_folder)
    )
    assert loss < 2.5  # ln(400) = 6 at the start
    row = finetune.encode_rows(codec, LESSONS)[-1]
    tokens = torch.tensor([row.prompt + row.answer])
    bank = AdapterBank(tiny_model)
    bank.load("a", tmp_path / "a")
    with torch.no_grad():
        plain = tiny_model(tokens).logits
        with bank.active("a", len(row.prompt)):
            ours = tiny_model(tokens).logits
    bank.close()
    theirs_model = peft.PeftModel.from_pretrained(
        Qwen3ForCausalLM.from_pretrained(tiny_folder), tmp_path / "a"
    ).eval()
    with torch.no_grad():
        theirs = theirs_model(input_ids=tokens).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.equal(ours[:, : len(row.prompt)], plain[:, : len(row.prompt)])
    assert (ours[:, len(row.prompt) :] - plain[:, len(row.prompt) :]).abs().max() > 0.1


def test_training_logits_are_those_of_a_plain_pass(tiny_model: Qwen3ForCausalLM, codec: ChatCodec) -> None:
    learner = Learner(tiny_model, Tuning(rank=4))
    for b in learner.b:
        torch.nn.init.normal_(b, std=0.1)
    bank = AdapterBank(tiny_model)
    bank.add(learner.adapter("a", codec.invocation))
    rows = finetune.encode_rows(codec, LESSONS)
    batch = collate(rows, 1, torch.device("cpu"))
    with torch.no_grad():
        logits = torch.split(answer_logits(tiny_model, batch, bank, "a"), [len(r.answer) - 1 for r in rows])
        for row, mine in zip(rows, logits, strict=True):
            with bank.active("a", len(row.prompt)):
                alone = tiny_model(torch.tensor([row.prompt + row.answer])).logits[0, len(row.prompt) : -1]
            assert torch.allclose(mine, alone, atol=1e-4)
    bank.close()


def test_targets_are_the_answer_and_the_end() -> None:
    batch = collate([Row((1, 9, 3), (2, 7, 8, 3)), Row((1, 3), (2, 5, 3))], 1, torch.device("cpu"))
    assert finetune.targets_of(batch).tolist() == [7, 8, 3, 5, 3]
    assert batch.prompt.tolist() == [[1, 9, 3], [0, 1, 3]]
    assert batch.mask.tolist() == [[1] * 7, [0, 1, 1, 1, 1, 1, 0]]


def test_an_interrupted_run_ends_with_the_same_adapter(
    tiny_model: Qwen3ForCausalLM, codec: ChatCodec, tmp_path: Path
) -> None:
    tuning = dataclasses.replace(QUICK, steps=12, every=4)
    train_adapter(tiny_model, codec, LESSONS, tuning, tmp_path / "w1", tmp_path / "whole")

    def stop_at_8(line: str) -> None:
        if line.startswith("step 8/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(tiny_model, codec, LESSONS, tuning, tmp_path / "w2", tmp_path / "cut", stop_at_8)
    assert all(p.requires_grad for p in tiny_model.parameters())
    train_adapter(tiny_model, codec, LESSONS, tuning, tmp_path / "w2", tmp_path / "cut")
    whole, cut = ((tmp_path / n / "adapter_model.safetensors").read_bytes() for n in ("whole", "cut"))
    assert whole == cut
    with pytest.raises(ValueError, match="other settings"):
        train_adapter(
            tiny_model, codec, LESSONS, dataclasses.replace(tuning, rank=2), tmp_path / "w2", tmp_path / "cut"
        )


def test_an_adapter_is_gone_on_from(tiny_model: Qwen3ForCausalLM, codec: ChatCodec, tmp_path: Path) -> None:
    tuning = dataclasses.replace(QUICK, rank=4)
    first = train_adapter(tiny_model, codec, LESSONS, tuning, tmp_path / "a.run", tmp_path / "a")
    begun = read_adapter("begun", tmp_path / "a", torch.float32, torch.device("cpu"))
    learner = Learner(tiny_model, tuning, begun)
    for name, product in learner.adapter("x", codec.invocation).products.items():
        assert torch.equal(product.a, begun.products[name].a)
        torch.testing.assert_close(product.b * product.scale, begun.products[name].b)
    short = dataclasses.replace(tuning, steps=2, rate=1e-4)
    on = train_adapter(
        tiny_model, codec, LESSONS, short, tmp_path / "b.run", tmp_path / "b", start=tmp_path / "a"
    )
    anew = train_adapter(tiny_model, codec, LESSONS, short, tmp_path / "c.run", tmp_path / "c")
    assert on < anew
    assert on == pytest.approx(first, abs=0.5 * (anew - first))
    with pytest.raises(ValueError, match=r"rank 4 and adapts .* asks for rank 2"):
        Learner(tiny_model, Tuning(rank=2), begun)


def test_an_idle_bank_changes_nothing(tiny_model: Qwen3ForCausalLM, tmp_path: Path) -> None:
    tokens = torch.randint(4, 300, (2, 9))
    with torch.no_grad():
        before = tiny_model(tokens).logits
        names = list(tiny_model.state_dict())
        bank, learner = AdapterBank(tiny_model), Learner(tiny_model, Tuning(rank=4))
        for b in learner.b:
            torch.nn.init.normal_(b)
        bank.add(learner.adapter("a", (2,)))
        assert torch.equal(tiny_model(tokens).logits, before)
        assert list(tiny_model.state_dict()) == names
        with bank.active_rows([None, "a"], torch.arange(9)[None] >= torch.tensor([[0], [4]])):
            mixed = tiny_model(tokens).logits
        with bank.active("a", 4):
            alone = tiny_model(tokens[1:]).logits
        assert torch.equal(mixed[0], before[0])
        assert torch.allclose(mixed[1], alone[0], atol=1e-5)
        bank.close()
        assert torch.equal(tiny_model(tokens).logits, before)


def test_an_adapter_for_another_trunk_is_refused(tiny_model: Qwen3ForCausalLM, tmp_path: Path) -> None:
    learner = Learner(tiny_model, Tuning(rank=4, targets=("down_proj",)))
    adapter = learner.adapter("a", (2,))
    wrong = {n.replace("layers.1", "layers.7"): p for n, p in adapter.products.items()}
    save_adapter(dataclasses.replace(adapter, products=wrong), 8, "x", tmp_path)
    with pytest.raises(Exception, match=r"layers\.7\.mlp\.down_proj"):
        AdapterBank(tiny_model).load("a", tmp_path)


def test_unknown_targets_are_named(tiny_model: Qwen3ForCausalLM) -> None:
    with pytest.raises(ValueError, match="no linear map is called query"):
        Learner(tiny_model, Tuning(targets=("query",)))
