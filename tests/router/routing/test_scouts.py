"""Scouts: batches read as each prompt alone; the cache gives back what was read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import table_of
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from pilothouse.router.routing.scouts import (
    DecoderReader,
    EncoderReader,
    TextReader,
    TorchForward,
    TorchHidden,
    read_table_with,
)
from pilothouse.router.taps import POOLINGS, Site, Taps
from pilothouse.store.errors import UsageError
from pilothouse.store.records import Message

TEXTS = ["a", "bc", "de", "a longer one than that", "日本"]
Turns = tuple[Message, ...]


def turns(text: str) -> Turns:
    return (Message(role="user", content=text),)


def encode(asked: Sequence[Message]) -> list[int]:
    return [3 + ord(c) % 90 for turn in asked for c in turn.content]


def decoder() -> DecoderReader:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2
    )
    site = Site((0, 2), ("last", "mean", "max_rolling_mean"))
    return DecoderReader(
        TorchForward(LlamaForCausalLM(config).eval()), encode, site, {"kind": "decoder", "n": 1}, 64
    )


def encoder(poolings: tuple[str, ...] = ("mean", "last")) -> EncoderReader:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=96, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    model = TorchHidden(BertModel(config).eval())
    return EncoderReader(model, encode, (0, 2), poolings, {"kind": "encoder"}, 8)


def model_of(reader: DecoderReader | EncoderReader) -> Any:
    """The torch model behind a reader of these tests."""
    return (reader.forward if isinstance(reader, DecoderReader) else reader.hidden).model  # type: ignore[attr-defined]


def test_decoder_batch_equals_solo_and_equals_taps() -> None:
    reader = decoder()
    together = reader.read([turns(text) for text in TEXTS])
    assert together.states is not None
    assert together.signals is not None
    for i, text in enumerate(TEXTS):
        alone = reader.read([turns(text)])
        torch.testing.assert_close(alone.states[0], together.states[i])  # type: ignore[index]
        with torch.inference_mode(), Taps(model_of(reader), (0, 2)) as taps:
            logits = model_of(reader)(input_ids=torch.tensor([encode(turns(text))])).logits[0, -1]
        torch.testing.assert_close(reader.site.vector(taps.states), together.states[i])
        log_p = torch.log_softmax(logits, 0)
        assert float(together.signals[i, 0]) == pytest.approx(float(log_p.max()), abs=1e-5)


def test_a_decoder_pools_the_last_turn_where_its_site_says_so() -> None:
    reader, line = decoder(), Message(role="user", content="and what of this one?")
    reader.site = Site((2,), ("max_rolling_mean",), "turn")
    earlier = Message(role="user", content="something of before, quite long")
    found = reader.read([(earlier, line), (line,)])
    assert found.states is not None
    ids = encode((earlier, line))
    with torch.inference_mode(), Taps(model_of(reader), (2,)) as taps:
        model_of(reader)(input_ids=torch.tensor([ids]))
    own = taps.states[2][0, -len(encode((line,))) :]
    torch.testing.assert_close(found.states[0], POOLINGS["max_rolling_mean"](own))
    assert not torch.allclose(found.states[0], found.states[1], atol=1e-3)  # attention still sees before


def test_encoder_pools_its_hidden_states_and_cuts_long_prompts() -> None:
    reader = encoder()
    found = reader.read([turns(text) for text in TEXTS]).states
    assert found is not None
    for i, text in enumerate(TEXTS):
        ids = encode(turns(text))
        ids = ids if len(ids) <= 8 else [*ids[:7], ids[-1]]
        with torch.inference_mode():
            states = model_of(reader)(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        parts = [f(states[layer][0]) for layer in (0, 2) for f in (lambda x: x.mean(0), lambda x: x[-1])]
        torch.testing.assert_close(found[i], torch.cat(parts), rtol=1e-4, atol=1e-5)


def test_layers_and_poolings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match="poolings are"):
        encoder(("middle",))
    reader = encoder()
    reader.layers = (9,)
    with pytest.raises(UsageError, match="layer 9 does not exist"):
        reader.read([turns("a")])


def test_cache_gives_back_what_was_read(tmp_path: Path) -> None:
    table = table_of(TEXTS, torch.ones(len(TEXTS), 1), ("g",) * len(TEXTS))
    reader = decoder()
    first = read_table_with(reader, table, tmp_path)
    reader.forward = TorchForward(torch.nn.Identity())  # would fail if it were asked again
    second = read_table_with(reader, table, tmp_path)
    assert torch.equal(first.states, second.states)  # type: ignore[arg-type]
    assert torch.equal(first.signals, second.signals)  # type: ignore[arg-type]
    assert second.groups == table.groups
    with pytest.raises(Exception, match=r".+"):
        read_table_with(reader, table.take([0]), tmp_path)
    assert read_table_with(TextReader({"kind": "none"}), table, tmp_path).states is None
