"""A family grows around any of the supported decoders, and answers through it at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from pilothouse.specialists.adapters import AdapterBank, save_adapter
from pilothouse.specialists.create import new_family
from pilothouse.specialists.engines.base import Sampling
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.finetune import Learner, Tuning
from pilothouse.specialists.starter.tokenizer import save_tokenizer
from pilothouse.store.errors import ArtifactError, UsageError
from pilothouse.store.records import Message

COMMON = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 0,
}  # fmt: skip
GROUPED = {**COMMON, "num_key_value_heads": 2, "head_dim": 8}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "bos_token_id": 1, "eos_token_id": 3}
DECODERS = {
    "llama": GROUPED, "qwen2": GROUPED, "qwen3": GROUPED, "mistral": GROUPED, "phi": COMMON,
    "gpt_neox": COMMON,
    "gemma2": {**GROUPED, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {**GROUPED, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gpt2": GPT2,
}  # fmt: skip


def make(kind: str, folder: Path, tokenizer: Tokenizer) -> Path:
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        kind, vocab_size=tokenizer.get_vocab_size(), initializer_range=0.2, **DECODERS[kind]
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    save_tokenizer(tokenizer, folder)
    return folder


@pytest.mark.parametrize("kind", DECODERS)
def test_every_decoder_answers_and_takes_adapters(
    kind: str, tmp_path: Path, tiny_tokenizer: Tokenizer
) -> None:
    trunk = make(kind, tmp_path / "model", tiny_tokenizer)
    family = new_family(trunk, "mine", tmp_path / "mine")
    assert family.trunk_folder == trunk
    assert family.bank is None
    assert family.scout_layers == (0, 1) or family.scout_layers == (0,)
    engine = TorchEngine(Family.open(tmp_path / "mine"), "cpu")
    tokens = engine.encode_chat([Message(role="user", content="What is the capital of France?")])
    prefill = engine.probe(tokens, (0, 1))
    drawn = [e.token for e in engine.generate(prefill, "trunk", Sampling(max_tokens=6))]
    found = [*tokens, *engine.codec.invocation]
    plain = AutoModelForCausalLM.from_pretrained(trunk)
    plain.train(False)
    with torch.no_grad():
        for token in drawn:
            assert token == int(plain(torch.tensor([found])).logits[0, -1].argmax())
            found.append(token)
    learner = Learner(engine.trunk, Tuning(rank=2))
    for b in learner.b:
        torch.nn.init.normal_(b)
    save_adapter(learner.adapter("a", (2,)), 2, "trunk", tmp_path / "a", learner.transposed)
    engine.close()
    agrees_with_peft(trunk, tmp_path / "a", [*tokens, 2, 9, 8])


def agrees_with_peft(trunk: Path, adapter: Path, tokens: list[int]) -> None:
    import peft

    ours = AutoModelForCausalLM.from_pretrained(trunk)
    ours.train(False)
    bank = AdapterBank(ours)
    bank.load("a", adapter)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(trunk), adapter)
    theirs.train(False)
    with torch.no_grad(), bank.active("a", len(tokens) - 3):
        expected = theirs(input_ids=torch.tensor([tokens])).logits
        assert torch.allclose(ours(torch.tensor([tokens])).logits, expected, atol=1e-3, rtol=1e-4)


def test_a_copied_family_needs_no_other_folder(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    trunk = make("llama", tmp_path / "model", tiny_tokenizer)
    (trunk / "modeling_evil.py").write_text("raise SystemExit")
    new_family(trunk, "mine", tmp_path / "mine", copy=True)
    trunk.rename(tmp_path / "gone")
    family = Family.open(tmp_path / "mine")
    family.verify()
    assert not list((tmp_path / "mine").rglob("*.py"))


def test_a_changed_trunk_elsewhere_is_noticed(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    trunk = make("llama", tmp_path / "model", tiny_tokenizer)
    new_family(trunk, "mine", tmp_path / "mine")
    text = (trunk / "config.json").read_text()
    (trunk / "config.json").write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    with pytest.raises(ArtifactError, match="was made for"):
        Family.open(tmp_path / "mine").verify()


def test_what_cannot_be_a_trunk_is_refused(tmp_path: Path, tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="is no folder"):
        new_family(tmp_path / "none", "mine", tmp_path / "mine")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="'bert' model"):
        new_family(tmp_path / "odd", "mine", tmp_path / "mine")
    trunk = make("llama", tmp_path / "model", tiny_tokenizer)
    (trunk / "model.safetensors").rename(trunk / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match=r"pytorch_model\.bin is a pickle"):
        new_family(trunk, "mine", tmp_path / "mine")
    with pytest.raises(UsageError, match=r"family name '\.\./x'"):
        new_family(trunk, "../x")
    (tmp_path / "mine").mkdir()
    (trunk / "pytorch_model.bin").rename(trunk / "model.safetensors")
    with pytest.raises(UsageError, match="exists already"):
        new_family(trunk, "mine", tmp_path / "mine")
