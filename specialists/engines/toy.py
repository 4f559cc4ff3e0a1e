"""A family of random weights, small enough that every engine can be compared with plain arithmetic in
seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters import Adapter, LowRank, linear_maps, save_adapter, shape_of
from ..card import Card, Kind
from ..create import new_family
from ..integrity import seal
from ..starter.tokenizer import save_tokenizer, train_tokenizer

ADAPTERS = ("alpha", "beta", "gamma")
STUDENT = "pupil"
CARDS = "guide"
TEXT = """Once upon a time a small boat went down the river. What is the capital of France?
The capital is Paris. Add twelve and thirty. The answer is 42. Say hello in Spanish: hola, ¿qué tal?
Größe, naïve, café, 你好, 🚢. The pilot reads the instruments, sets the course, turns the wheel."""


def make_family(folder: Path, config: Any = None) -> Path:
    """Write a sealed family into `folder`: a random trunk (`config`, a Hugging Face config, else a small Qwen
    3), three adapters that matter, a student, and a specialist of cards. Adapters wake at the invocation.
    """
    from transformers import AutoModelForCausalLM

    tokenizer = train_tokenizer([TEXT] * 3, 400)
    source = folder.parent / f"{folder.name}-trunk"
    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config or small_config(tokenizer.get_vocab_size()))
    model.save_pretrained(source)
    save_tokenizer(tokenizer, source)
    family = new_family(source, folder.name, folder, copy=True)
    for seed, name in enumerate(ADAPTERS, 1):
        adapter = Adapter(name, _products(model, rank=2 + seed, seed=seed), 2 + seed, (2,))
        save_adapter(adapter, 2.0 + seed, "trunk", folder / "specialists" / name)
    torch.manual_seed(9)
    auto.from_config(model.config).save_pretrained(folder / "specialists" / STUDENT)
    kinds: dict[str, Kind] = {**dict.fromkeys(ADAPTERS, "adapter"), STUDENT: "student", CARDS: "cards"}
    for name, kind in kinds.items():
        card = Card(
            name=name,
            kind=kind,
            title=name,
            description=f"The {name}.",
            parent_sha256=family.trunk_fingerprint,
        )
        card.save(folder / "specialists" / name)
    family.settings.model_copy(update={"specialists": ("trunk", *kinds)}).save(folder)
    seal(folder)
    return folder


def small_config(vocabulary: int) -> Any:
    """The config of a decoder with 2 layers of width 32."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=3,
        pad_token_id=0,
        initializer_range=0.2,
    )


def _products(model: Any, rank: int, seed: int) -> dict[str, LowRank]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    found = {}
    for target, module in linear_maps(model).items():
        outputs, inputs = shape_of(module)
        found[target] = LowRank(normal(rank, inputs) * inputs**-0.5, normal(outputs, rank) * 0.3)
    return found
