"""Fast readings equal their plain twins, and where there is none the plain one reads and says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pilothouse.router.routing.scouts import TorchForward, TorchHidden
from pilothouse.specialists.leanconfig import NotLean
from pilothouse.specialists.leanencoder import Map, Packed, load_lean_encoder
from pilothouse.specialists.models import load_decoder
from pilothouse.specialists.scouting import LeanHidden, NativeForward, open_forward, open_hidden
from pilothouse.store.errors import UsageError

ROWS = [[5, 6, 7, 8, 9, 3, 2], [11, 12, 5, 9, 31, 40, 41]]
SHAPE = {"vocab_size": 64, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3}


def saved(model: PreTrainedModel, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(3)
    for one in model.parameters():  # biases and norms too: a fresh model's say nothing
        one.data = one.data + 0.2 * torch.randn(one.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return saved(BertModel(BertConfig(**SHAPE, num_attention_heads=4)), tmp_path)


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = Qwen3Config(
        **SHAPE, num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=2048
    )
    return saved(Qwen3ForCausalLM(config), tmp_path)


def hidden(folder: Path, dtype: torch.dtype) -> list[Tensor]:
    model = BertModel.from_pretrained(folder, dtype=dtype).eval()
    with torch.inference_mode():
        return [one.float() for one in TorchHidden(model)(ROWS, 3)]


def error(found: Tensor, true: Tensor) -> float:
    return float((found.float() - true).norm() / true.norm())


def test_the_lean_encoder_gives_the_hidden_states_of_its_twin(bert: Path) -> None:
    true, found = hidden(bert, torch.float32), load_lean_encoder(bert, torch.float32).states(ROWS)
    assert len(found) == len(true) == 4
    for one, other in zip(found, true, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_it_is_as_near_to_the_exact_states_as_its_twin(bert: Path) -> None:
    true, twin = hidden(bert, torch.float32), hidden(bert, torch.bfloat16)
    found = load_lean_encoder(bert, torch.bfloat16).states(ROWS)
    assert error(found[3], true[3]) < 1.5 * error(twin[3], true[3]) < 0.1


def test_a_packed_map_is_its_twin() -> None:
    generator = torch.Generator().manual_seed(5)
    weight, bias, x = (torch.randn(*shape, generator=generator) for shape in ((96, 48), (96,), (2, 30, 48)))
    plain = Map(weight.bfloat16(), bias.bfloat16())
    found, true = Packed.of(plain)(x.bfloat16()), plain(x.bfloat16())
    torch.testing.assert_close(found.float(), true.float(), rtol=2**-7, atol=2**-5)
    exact = Map(weight, bias)
    assert Packed.of(exact) is exact  # float32 stays as it is


def test_it_stops_at_the_deepest_layer_that_is_read(bert: Path) -> None:
    encoder = load_lean_encoder(bert, torch.float32)
    assert len(encoder.states(ROWS, 1)) == 2
    assert torch.equal(encoder.states(ROWS, 1)[1], encoder.states(ROWS)[1])


@pytest.mark.parametrize("odd", [{"hidden_act": "relu"}, {"is_decoder": True}])
def test_an_encoder_that_is_not_plain_is_read_by_transformers(tmp_path: Path, odd: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = BertModel(BertConfig(**SHAPE, num_attention_heads=4, **odd))  # type: ignore[arg-type]
    folder = saved(model, tmp_path)
    with pytest.raises(NotLean, match=next(iter(odd))):
        load_lean_encoder(folder, torch.float32)
    opened, read_by = open_hidden(folder, "float32")
    assert isinstance(opened, TorchHidden)
    assert read_by.startswith("transformers: ")
    assert next(iter(odd)) in read_by


def test_a_plain_encoder_is_read_by_the_lean_one(bert: Path) -> None:
    opened, read_by = open_hidden(bert, "float32")
    assert isinstance(opened, LeanHidden)
    assert read_by == "lean"


def test_the_native_reading_gives_the_states_and_logits_of_torch(qwen: Path) -> None:
    opened = open_forward(qwen)
    assert (opened.read_by, opened.precision) == ("native", "float32")
    assert isinstance(opened.forward, NativeForward)
    with torch.inference_mode():
        states, logits = opened.forward(ROWS, (0, 2))
        true, wanted = TorchForward(load_decoder(qwen, torch.float32))(ROWS, (0, 2))
    for layer in (0, 2):
        torch.testing.assert_close(states[layer], true[layer], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-3)


def test_a_prompt_longer_than_a_step_is_read_in_pieces(qwen: Path) -> None:
    row = [(7 * i) % 60 + 1 for i in range(1500)]
    with torch.inference_mode():
        states, logits = open_forward(qwen).forward([row], (1,))
        true, wanted = TorchForward(load_decoder(qwen, torch.float32))([row], (1,))
    assert states[1].shape == (1, 1500, 48)
    assert error(states[1], true[1]) < 1e-4
    assert error(logits, wanted) < 1e-4


def test_bytes_are_near_and_not_the_same(qwen: Path) -> None:
    with torch.inference_mode():
        states, _ = open_forward(qwen, "int8").forward(ROWS, (2,))
        true, _ = TorchForward(load_decoder(qwen, torch.float32))(ROWS, (2,))
    assert 1e-5 < error(states[2], true[2]) < 0.1


def test_a_decoder_that_is_not_native_is_read_by_torch_and_says_why(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    opened = open_forward(saved(GPT2LMHeadModel(config), tmp_path), "int8")
    assert isinstance(opened.forward, TorchForward)
    assert opened.precision == "float32"
    assert opened.read_by.startswith("torch: ")
    assert "gpt2" in opened.read_by
    with pytest.raises(UsageError, match="layers 0 to 1"):
        opened.require(2)


def test_a_precision_that_does_not_exist_is_refused(qwen: Path) -> None:
    with pytest.raises(UsageError, match="not 'int3'"):
        open_forward(qwen, "int3")
    with pytest.raises(UsageError, match="not 'int8'"):
        open_hidden(qwen, "int8")
