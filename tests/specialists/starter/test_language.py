"""Making the trunk: sampled stories, the tokenizer's text, the trunk's shape, and the saved folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from pilothouse.specialists.improve.pretrain import Schedule, Stage, pretrain
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.starter import corpus, language
from pilothouse.specialists.starter.skills import translate
from pilothouse.specialists.starter.tokenizer import save_tokenizer, train_tokenizer
from pilothouse.specialists.starter.work import Work
from pilothouse.specialists.tokenizing import ChatCodec


@pytest.fixture
def work(tmp_path: Path, tiny_data: Path) -> Work:
    found = Work(tmp_path / "work", tiny_data)
    (found.sources / "stories.txt").write_text((tiny_data / "stories.txt").read_text())
    save_tokenizer(train_tokenizer(["a boat went down the river"] * 3, 280), found.path("tokenizer"))
    return found


class Teller:
    """Stands in for the teacher: batches of known stories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stories(self, count: int, seed: int, length: int) -> Iterator[list[str]]:
        yield ["One.", "Two."]
        yield [f"{self.folder.name} {seed}."]


def test_sampled_stories_are_written_one_after_another(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "Teacher", Teller)
    language.sample_stories(work)
    text = (work.sources / "stories.txt").read_text()
    assert text == "".join(f"{s}{corpus.STORY_BREAK}" for s in ("One.", "Two.", "tinystories-ple-c3M 17."))
    assert not (work.sources / "stories.part").exists()


def test_the_tokenizer_sees_english_stories_messages_and_three_languages(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monolingual = translate.monolingual
    monkeypatch.setattr(translate, "monolingual", lambda code, count, seed: monolingual(code, 50, seed))
    texts = list(language.tokenizer_texts(work))
    joined = " ".join(texts)
    for part in ("The cat sat.", "brave rabbit number 7", "I feel message 8"):
        assert part in joined
    assert "endoftext" not in joined
    assert all(len(text.splitlines()) == 50 for text in texts[-3:])


def test_the_trunk_has_the_parameters_that_its_description_says() -> None:
    class Full:
        def get_vocab_size(self) -> int:
            return language.VOCABULARY

        def token_to_id(self, name: str) -> int:
            return {"<|pad|>": 0, "<|end|>": 3}[name]

    config = language.trunk_config(Full())  # type: ignore[arg-type]
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    assert round(model.num_parameters() / 1e6, 2) == 8.26
    assert (config.eos_token_id, config.pad_token_id) == (3, 0)


def test_every_source_of_the_schedule_has_a_stream() -> None:
    for stage in language.TRUNK.stages:
        assert set(stage.mixture) <= set(language.STREAM_TOKENS)
        assert min(stage.mixture.values()) > 0
    assert sum(language.MIXTURE.values()) == pytest.approx(1.0)
    copying = language.COPYING.mixture
    assert copying["echo"] / sum(copying.values()) == pytest.approx(0.5, abs=0.02)
    assert set(language.STREAM_TOKENS) - set(corpus.SKILLS) == {
        "english",
        "echo",
        "tales",
        "instructions",
    }
    assert language.VOCABULARY < 2**16  # streams are uint16


def test_a_trained_trunk_is_saved_in_bf16_with_its_tokenizer(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(tokenizer: object) -> Qwen3Config:
        return Qwen3Config(
            vocab_size=280,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=16,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=3,
        )

    monkeypatch.setattr(language, "STREAM_TOKENS", {"tales": 500})
    monkeypatch.setattr(
        language, "TRUNK", Schedule(rows=2, length=8, every=2, stages=(Stage("t", 48, {"tales": 1.0}),))
    )
    again = Schedule(rows=2, length=8, every=2, stages=(Stage("again", 32, {"tales": 1.0}),))
    monkeypatch.setattr(language, "PASSES", {"second": again})
    monkeypatch.setattr(language, "trunk_config", config)
    monkeypatch.setattr(language, "pretrain", partial(pretrain, compiled=False))
    language.make_streams(work)
    language.train_trunk(work)
    last = load_file(work.path("trunk.run", "weights.safetensors"))
    model = load_model_folder(work.path(language.FULL))
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, last[name].to(torch.bfloat16)), name
    assert ChatCodec.load(work.path(language.FULL)).end == 3
    assert "tokens of streams: tales 500" in work.path("run.log").read_text()

    language.train_on(work, "second")
    second = load_file(work.path("second.run", "weights.safetensors"))
    assert any(not torch.equal(second[name], last[name]) for name in last)
    model = load_model_folder(work.path(language.FULL))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, second[name].to(torch.bfloat16)), name
