"""A tiny tokenizer and tiny random decoders, made once per session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen3ForCausalLM

from pilothouse.specialists.adapters import save_adapter
from pilothouse.specialists.card import Card, Kind
from pilothouse.specialists.create import new_family
from pilothouse.specialists.engines.toy import small_config
from pilothouse.specialists.improve.finetune import Learner, Tuning
from pilothouse.specialists.integrity import seal
from pilothouse.specialists.starter.tokenizer import save_tokenizer, train_tokenizer

TEXT = """Once upon a time a small boat went down the river. What is the capital of France?
The capital is Paris.
Add twelve and thirty. The answer is 42. Say hello in Spanish: hola, ¿qué tal? Größe, naïve, café, 你好, 🚢.
The pilot reads the instruments, sets the course, turns the wheel and writes everything in the log."""


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT] * 3, 400)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    """A Hugging Face folder of a 2-layer Qwen3 with random weights in fp32."""
    folder = tmp_path_factory.mktemp("tiny") / "trunk"
    torch.manual_seed(0)
    Qwen3ForCausalLM(small_config(tiny_tokenizer.get_vocab_size())).save_pretrained(folder)
    save_tokenizer(tiny_tokenizer, folder)
    return folder


@pytest.fixture
def tiny_model(tiny_folder: Path) -> Qwen3ForCausalLM:
    model: Qwen3ForCausalLM = Qwen3ForCausalLM.from_pretrained(tiny_folder)
    model.train(False)
    return model


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A sealed family: the tiny trunk, two random adapters that matter, a student, a specialist of cards."""
    folder = tmp_path_factory.mktemp("families") / "tiny"
    family = new_family(tiny_folder, "tiny", folder, copy=True)
    model = Qwen3ForCausalLM.from_pretrained(folder / "trunk")
    for seed, name in enumerate(("alpha", "beta"), 1):
        learner = Learner(model, Tuning(rank=4, alpha=4, seed=seed))
        generator = torch.Generator().manual_seed(seed)
        for b in learner.b:
            b.data.normal_(std=0.5, generator=generator)
        save_adapter(learner.adapter(name, (2,)), 4, "trunk", folder / "specialists" / name)
    torch.manual_seed(9)
    Qwen3ForCausalLM(model.config).save_pretrained(folder / "specialists" / "pupil")
    kinds: dict[str, Kind] = {"alpha": "adapter", "beta": "adapter", "pupil": "student", "guide": "cards"}
    for name, kind in kinds.items():
        parent = family.trunk_fingerprint
        card = Card(
            name=name, kind=kind, title=name, description=f"The {name} of tests.", parent_sha256=parent
        )
        card.save(folder / "specialists" / name)
    family.settings.model_copy(update={"specialists": ("trunk", *kinds)}).save(folder)
    seal(folder)
    return folder
