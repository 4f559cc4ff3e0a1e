"""The lean decoder is the Hugging Face model, number for number, and needs no transformers."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from pilothouse.router.steer.runtime import Steering
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.router.taps import Taps
from pilothouse.specialists.adapters import Adapter, AdapterBank, LowRank, linear_maps, shape_of
from pilothouse.specialists.engines.base import Sampling
from pilothouse.specialists.engines.torch import TorchEngine, view
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.answering import answer_all
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.lean import LeanDecoder, load_lean
from pilothouse.specialists.leanconfig import NotLean
from pilothouse.specialists.models import empty_cache, load_decoder, load_model_folder
from pilothouse.specialists.weights import WeightsError
from pilothouse.store.records import Message

COMMON: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
}
TIED: dict[str, Any] = {"tie_word_embeddings": True}
WIDE: dict[str, Any] = {"intermediate_size": 80, "vocab_size": 97}
FOUR: dict[str, Any] = {
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**COMMON),
    "llama tied, biased": LlamaConfig(**{**COMMON, **TIED, **WIDE, "attention_bias": True, "mlp_bias": True}),
    "qwen2": Qwen2Config(**COMMON),
    "qwen2 tied, all heads": Qwen2Config(**{**COMMON, **TIED, "num_key_value_heads": 3}),
    "qwen3": Qwen3Config(**{**COMMON, **WIDE, "head_dim": 6, "attention_bias": True}),
    "qwen3 tied, four layers": Qwen3Config(**{**COMMON, **TIED, **WIDE, **FOUR}),
    "mistral": MistralConfig(**{**COMMON, "head_dim": 12, "sliding_window": None}),
    "mistral tied": MistralConfig(**{**COMMON, **TIED, **WIDE, "sliding_window": None}),
}
Pair = tuple[Any, LeanDecoder]


def randomised(config: PretrainedConfig) -> Any:
    """A random model whose gains and biases matter too."""
    torch.manual_seed(3)
    made: Any = AutoModelForCausalLM
    model = made.from_config(copy.deepcopy(config)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (0.0 if name.endswith("bias") else 1.0))
    return model


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    randomised(CONFIGS[request.param]).save_pretrained(folder)
    return load_model_folder(folder, torch.float32), load_lean(folder, torch.float32)


def ids(rows: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(3, 61, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def same(left: Tensor, right: Tensor) -> None:
    assert left.shape == right.shape
    assert (left - right).abs().max().item() <= 1e-5 * max(1.0, right.abs().max().item())


def both(pair: Pair, run: Callable[[Any], Any]) -> None:
    with torch.inference_mode():
        right, left = (run(model) for model in pair)
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        same(a, b)


# -- the same numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("tokens", [1, 2, 7, 33])
def test_prefill_and_steps_are_those_of_hugging_face(pair: Pair, rows: int, tokens: int) -> None:
    def run(model: Any) -> list[Tensor]:
        cache = empty_cache(model)
        found = [model(input_ids=ids(rows, tokens)).logits]
        found.append(model(ids(rows, tokens), past_key_values=cache, use_cache=True, logits_to_keep=1).logits)
        for step, count in enumerate((1, 1, 5, 1), 1):
            more = ids(rows, count, step)
            found.append(model(input_ids=more, past_key_values=cache, use_cache=True).logits)
        assert cache.get_seq_length() == tokens + 8
        return found

    both(pair, run)


def test_names_shapes_and_counts_are_those_of_hugging_face(pair: Pair) -> None:
    hugging, lean = pair
    mine, theirs = lean.state_dict(), hugging.state_dict()
    assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in theirs.items()}
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert lean.num_parameters() == hugging.num_parameters()
    assert list(linear_maps(lean)) == list(linear_maps(hugging))
    assert lean.config.max_position_embeddings == 64


def test_taps_adapters_and_steering_act_alike(pair: Pair) -> None:
    width = pair[1].config.hidden_size
    vectors = [
        SteeringVector(f"v{layer}", "add", layer, 2.0, "both", torch.randn(width), fingerprint="")
        for layer in (0, 1)
    ]

    def run(model: Any) -> list[Tensor]:
        found: list[Tensor] = []
        bank = AdapterBank(model)
        bank.add(adapter(bank))
        for steered in ([], vectors):
            cache = empty_cache(model)
            with Steering(model, steered), Taps(model, (0, 1, 2)) as taps:
                found.append(model(input_ids=ids(2, 7), past_key_values=cache, use_cache=True).logits)
                found += [taps.states[layer] for layer in (0, 1, 2)]
                with bank.active("a"):
                    for step in (1, 2):
                        more = model(input_ids=ids(2, 1, step), past_key_values=cache, use_cache=True)
                        found += [more.logits, *taps.states.values()]
                with bank.active("a", 2), pytest.raises(AssertionError):
                    same(model(input_ids=ids(2, 7)).logits, found[0])
                rows = torch.arange(7).ge(3).expand(2, 7)
                with bank.active_rows(["a", None], rows):
                    found.append(model(input_ids=ids(2, 7)).logits)
        bank.close()
        found.append(model(input_ids=ids(2, 7)).logits)
        assert torch.equal(found[-1], model(input_ids=ids(2, 7)).logits)
        return found

    both(pair, run)


def adapter(bank: AdapterBank) -> Adapter:
    generator, products = torch.Generator().manual_seed(4), {}
    for name, site in bank.sites.items():
        outputs, inputs = shape_of(site.module)
        a, b = torch.randn(2, inputs, generator=generator), torch.randn(outputs, 2, generator=generator)
        products[name] = LowRank(a, b * 0.3)
    return Adapter("a", products, 2)


def test_a_hook_on_any_map_acts_alike(pair: Pair) -> None:
    def run(model: Any) -> list[Tensor]:
        found = []
        for name in linear_maps(model):
            module: nn.Module = model.get_submodule(name)
            handle = module.register_forward_hook(lambda _m, _i, out: out * 1.5 + 0.4)
            found.append(model(input_ids=ids(1, 7)).logits)
            handle.remove()
        assert all(not torch.allclose(x, model(input_ids=ids(1, 7)).logits, atol=1e-4) for x in found)
        return found

    both(pair, run)


def test_views_of_a_cache_grow_apart(pair: Pair) -> None:
    lean = pair[1]
    with torch.inference_mode():
        shared = empty_cache(lean)
        lean(input_ids=ids(1, 9), past_key_values=shared)
        before = [(layer.keys.clone(), layer.values.clone()) for layer in shared.layers]
        left, right = view(shared), view(shared)
        for step in range(3):
            lean(input_ids=ids(1, 1, step), past_key_values=left)
            alone = empty_cache(lean)
            lean(input_ids=ids(1, 9), past_key_values=alone)
            whole = lean(input_ids=ids(1, 1, 7), past_key_values=alone).logits
            same(lean(input_ids=ids(1, 1, 7), past_key_values=view(right)).logits, whole)
        assert (shared.get_seq_length(), left.get_seq_length(), right.get_seq_length()) == (9, 12, 9)
        for layer, (keys, values) in zip(shared.layers, before, strict=True):
            assert torch.equal(layer.keys, keys)
            assert torch.equal(layer.values, values)


def test_a_batch_of_answers_is_the_same(pair: Pair) -> None:
    prompts = [ids(1, 6, seed)[0].tolist() for seed in range(4)]
    right, left = (answer_all(model, prompts, 5, int(ids(1, 1, 9)), 9) for model in pair)
    assert [a.tokens for a in left] == [a.tokens for a in right]
    for a, b in zip(left, right, strict=True):
        assert a.mean_logprob == pytest.approx(b.mean_logprob, abs=1e-5)


def test_tables_made_while_inferring_serve_a_gradient(pair: Pair) -> None:
    lean = copy.deepcopy(pair[1]).requires_grad_(True)
    with torch.inference_mode():
        lean(input_ids=ids(1, 5))
    lean(input_ids=ids(1, 5)).logits.sum().backward()
    assert lean.model.embed_tokens.weight.grad is not None


# -- what is lean --------------------------------------------------------------------------------------


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    randomised(CONFIGS["qwen3 tied, four layers"]).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "phi"}, "'phi'"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "linear"),
        ({"rope_parameters": None, "rope_scaling": {"type": "dynamic"}}, "dynamic"),
        ({"partial_rotary_factor": 0.5}, "partial"),
        ({"use_sliding_window": True}, "sliding"),
        ({"model_type": "mistral", "sliding_window": 16}, "sliding"),
        ({"layer_types": ["sliding_attention"] * 4}, "several types"),
        ({"quantization_config": {"quant_method": "awq"}}, "foreign"),
        ({"num_key_value_heads": None}, "num_key_value_heads"),
        ({"num_key_value_heads": 4}, "multiple"),
        ({"head_dim": 9}, "odd"),
        ({"intermediate_size": 81}, r"mlp\.gate_proj"),
    ],
)
def test_other_models_are_refused_by_name(qwen: Path, changes: dict[str, Any], named: str) -> None:
    load_lean(qwen)
    edit(qwen, **changes)
    with pytest.raises(NotLean, match=named):
        load_lean(qwen)
    with pytest.raises(NotLean, match=named):
        load_decoder(qwen, lean=True)


def test_hugging_face_takes_what_is_not_lean(qwen: Path) -> None:
    assert isinstance(load_decoder(qwen), LeanDecoder)
    assert not isinstance(load_decoder(qwen, lean=False), LeanDecoder)
    edit(qwen, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})
    assert type(load_decoder(qwen)).__name__ == "Qwen3ForCausalLM"


def test_damage_is_named_whoever_reads_it(qwen: Path) -> None:
    tensors = load_file(qwen / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "layers.1.mlp.up" not in k}, qwen / "model.safetensors")
    with pytest.raises(NotLean, match=r"layers\.1\.mlp\.up_proj"):
        load_lean(qwen)
    with pytest.raises(WeightsError, match=r"layers\.1\.mlp\.up_proj"):
        load_decoder(qwen)
    save_file({**tensors, "lm_head.weight": torch.zeros(97, 24)}, qwen / "model.safetensors")
    with pytest.raises(NotLean, match="ties its head"):
        load_lean(qwen)
    (qwen / "model.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(WeightsError, match="truncated"):
        load_decoder(qwen)


def test_older_configurations_mean_the_same(qwen: Path) -> None:
    wanted = load_lean(qwen)(ids(1, 9)).logits
    edit(qwen, rope_parameters=None, rope_theta=500.0, rope_scaling=None)
    same(load_lean(qwen)(ids(1, 9)).logits, wanted)
    edit(qwen, rope_theta=10_000.0)
    with pytest.raises(AssertionError):
        same(load_lean(qwen)(ids(1, 9)).logits, wanted)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_folders_are_read_alike(qwen: Path, tmp_path: Path, bits: int) -> None:
    quantize_folder(qwen, tmp_path / "small", bits, 8)
    pair = load_model_folder(tmp_path / "small", torch.float32), load_lean(tmp_path / "small", torch.float32)
    both(pair, lambda model: [model(input_ids=ids(2, 7)).logits])


# -- the engine ------------------------------------------------------------------------------------------


def test_the_engine_answers_alike_on_both(tiny_family: Path) -> None:
    family = Family.open(tiny_family)
    lean, hugging = (TorchEngine(family, "cpu", lean=switch) for switch in (None, False))
    assert isinstance(lean.trunk, LeanDecoder)
    assert not isinstance(hugging.trunk, LeanDecoder)
    prompt = lean.encode_chat([Message(role="user", content="Where does the river go?")])
    shared = [engine.probe(prompt, (0, 1)) for engine in (lean, hugging)]
    same(shared[0].states[1], shared[1].states[1])
    for _ in range(2):
        for name in ("trunk", "alpha", "pupil", "beta"):
            left, right = (
                [(e.token, e.logprob) for e in engine.generate(prefill, name, Sampling(max_tokens=16))]
                for engine, prefill in zip((lean, hugging), shared, strict=True)
            )
            assert [t for t, _ in left] == [t for t, _ in right]
            assert [p for _, p in left] == pytest.approx([p for _, p in right], abs=1e-4)
    assert isinstance(lean.students["pupil"], LeanDecoder)


ANSWER = """
import sys
from pilothouse.specialists.engines.base import Sampling
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.store.records import Message

engine = TorchEngine(Family.open(sys.argv[1]), "cpu")
prefill = engine.probe(engine.encode_chat([Message(role="user", content="Say hello")]), (0, 1))
for name in ("trunk", "alpha", "pupil"):
    assert list(engine.generate(prefill, name, Sampling(max_tokens=3)))
heavy = {"transformers", "peft", "sklearn", "scipy", "sympy"} & set(sys.modules)
print("loaded:", *sorted(heavy))
"""


def test_answering_imports_no_transformers(tiny_family: Path, pytestconfig: pytest.Config) -> None:
    path = os.pathsep.join([str(pytestconfig.rootpath / ".typing"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, str(tiny_family)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("loaded:", 0), done.stderr
