"""The native engine against plain vLLM: what can be known of it where vLLM is not installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_shape import TINY

from pilothouse.bench.circumstances import preloaded
from pilothouse.bench.engines import run, vllm_native
from pilothouse.bench.engines.contenders import Native, Times, random_adapters
from pilothouse.bench.engines.rounds import measure, prompts_for
from pilothouse.bench.engines.shapes import make_folder
from pilothouse.bench.engines.vllm_native import Bench, Pair, compared
from pilothouse.bench.engines.vllm_plain import Vllm
from pilothouse.bench.engines.vllm_weights import write_quantized
from pilothouse.kernels.quant import dequantize, quantize
from pilothouse.specialists.engines.native.model import Context, NativeModel
from pilothouse.specialists.weights import read_json, read_model_tensors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_folder(TINY, tmp_path / "model", 0)
    return tmp_path / "model"


@pytest.fixture
def no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the two names that a request is made of."""
    package, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    package.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    params.RequestOutputKind = SimpleNamespace(DELTA="delta")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)


class Engine:
    """vLLM's engine: `width` prompts of one step, then a token a step for each row; row r says 10 r + n."""

    def __init__(self, width: int = 8) -> None:
        self.width, self.waiting, self.running = width, [], {}  # type: ignore[var-annotated]
        self.loras: list[Any] = []

    def add_request(self, name: str, given: Any, params: Any, lora_request: Any) -> None:
        assert params.ignore_eos
        assert given["prompt_token_ids"]
        self.waiting.append((name, params.max_tokens))
        self.loras.append(lora_request)

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting or self.running)

    def step(self) -> list[Any]:
        new, self.waiting = self.waiting[: self.width], self.waiting[self.width :]
        self.running |= {name: [0, most] for name, most in new}
        outputs = []
        for name, row in list(self.running.items()):
            row[0] += 1
            said = SimpleNamespace(token_ids=[10 * int(name) + row[0]])
            outputs.append(SimpleNamespace(request_id=name, outputs=[said]))
            if row[0] == row[1]:
                del self.running[name]
        return outputs


def unpacked(words: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """compressed-tensors' `unpack_from_int32` of 4 bits."""
    nibbles = [(words >> (4 * i)) & 15 for i in range(8)]
    return torch.stack(nibbles, dim=2).reshape(tuple(shape)) - 8


@pytest.mark.parametrize("bits", [8, 4])
def test_linear_maps_and_the_head_are_rounded_and_nothing_else(
    model: Path, tmp_path: Path, bits: int
) -> None:
    target = tmp_path / "quantized"
    write_quantized(model, target, bits)
    found, dense = load_file(target / "model.safetensors"), read_model_tensors(model)
    dense["lm_head.weight"] = dense["model.embed_tokens.weight"]
    config = read_json(target / "config.json")
    assert config["tie_word_embeddings"] is False
    group = config["quantization_config"]["config_groups"]["group_0"]
    assert group["weights"]["num_bits"] == bits
    assert (group["input_activations"] is not None) == (bits == 8)
    for name, weight in dense.items():
        if weight.ndim != 2 or name == "model.embed_tokens.weight":
            assert torch.equal(found.pop(name), weight)
            continue
        base = name.removesuffix(".weight")
        scales = found.pop(f"{base}.weight_scale").float()
        if bits == 8:
            codes = found.pop(name)
        else:
            codes = unpacked(found.pop(f"{base}.weight_packed"), found.pop(f"{base}.weight_shape").tolist())
        read = codes.float() * scales.repeat_interleave(weight.shape[1] // scales.shape[1], dim=1)
        wanted = dequantize(quantize(weight, bits, weight.shape[1] if bits == 8 else 64))
        assert torch.allclose(read, wanted, rtol=2**-8, atol=0)  # scales are bf16 there
    assert not found


@pytest.mark.usefixtures("no_vllm")
def test_vllm_is_timed_from_where_each_request_has_its_first_token() -> None:
    one = Vllm("vLLM", Engine(), 1, loras=["a", "b", "c"])
    times = one.run([[1, 2]] * 3, 4)
    assert one.answers == [[10 * row + n for n in range(1, 6)] for row in range(3)]
    assert one.engine.loras == ["a", "b", "c"]
    assert times.prompt > 0
    assert times.token > 0


@pytest.mark.usefixtures("no_vllm")
def test_prompts_that_take_several_steps_are_no_figure() -> None:
    with pytest.raises(AssertionError, match="do not fit one step"):
        Vllm("vLLM", Engine(width=2), 1).run([[1]] * 3, 4)


def test_natives_answers_are_its_tokens_and_adapters_act_on_prompts_if_asked(model: Path) -> None:
    native = NativeModel(Context(1), model)
    weak = random_adapters(native.config, 1)[0]
    strong = {name: replace(product, scale=1e4) for name, product in weak.products.items()}
    adapter = native.adapter(replace(weak, products=strong))
    prompts = prompts_for(TINY, 2, 0, 40)
    answers = {}
    for whole in (False, True):
        one = Native("n", native, lambda row: (adapter, None), whole=whole)
        one.run(prompts, 3)
        answers[whole] = one.answers
        assert [len(answer) for answer in one.answers] == [4, 4]
    bare = Native("n", native)
    bare.run(prompts, 3)
    # the first token is drawn where the prompt ends: bare, but where adapters act on all of it
    assert [row[0] for row in answers[False]] == [row[0] for row in bare.answers]
    assert [row[0] for row in answers[True]] != [row[0] for row in bare.answers]
    assert answers[False] != bare.answers


class Timed:
    """A contender of so many seconds a token."""

    def __init__(self, name: str, token: float) -> None:
        self.name, self.token = name, token
        self.answers: list[list[int]] = []

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
        return Times(1.0, self.token)


def a_pair(vllm: Any) -> Pair:
    native: Any = [Timed("native, 1 thread", 0.2), Timed("native, 2 threads", 0.1)]
    return Pair("bf16", "faster", 2, native, vllm)


def test_each_engine_is_compared_at_its_faster_number_of_threads() -> None:
    pair = a_pair([Timed("vLLM, 1 thread", 0.3), Timed("vLLM, 2 threads", 0.6)])
    found = measure(pair.contenders, [[1]] * 8, 4, 3, 0)
    goal = vllm_native._goal(pair, found, 0)
    assert goal.found is not None
    assert goal.found.value == pytest.approx(3.0)
    assert goal.met
    rows = [row[0::4] for row in vllm_native._rows(pair, found, 0)]
    assert [(name, ratio.split("×")[0]) for name, ratio in rows] == [
        ("native, 1 thread", "0.667"),
        ("native, 2 threads", "0.333"),
        ("vLLM, 1 thread", "1.000"),
        ("vLLM, 2 threads", "2.000"),
    ]


def test_what_vllm_refuses_is_not_measured_and_says_why() -> None:
    pair = a_pair("vLLM: no kernel takes 3 bits")
    found = measure(pair.contenders, [[1]] * 8, 4, 3, 0)
    goal = vllm_native._goal(pair, found, 0)
    assert (goal.verdict, goal.note) == ("not measured", "vLLM: no kernel takes 3 bits")
    assert [row[-1] for row in vllm_native._rows(pair, found, 0)] == ["–", "–"]


def test_native_is_measured_where_vllm_refuses_every_model(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    def refuse(*given: Any) -> Any:
        raise ValueError("no kernel takes these bits")

    monkeypatch.setattr(vllm_native, "open_vllm", refuse)
    section = Bench(TINY, model, 0, False, lambda line: None, tmp_path, counts=(1, 2)).section(rounds=1)
    assert [goal.note for goal in section.goals] == ["vLLM: no kernel takes these bits"] * 4
    assert [goal.bound for goal in section.goals] == [2, 2, 2, 4]
    assert [row[0] for row in section.rows][::2] == [
        "native, bf16, 1 thread",
        "native, 8-bit, activations of 8 bits, 1 thread",
        "native, 4-bit, 1 thread",
        "native, bf16, 8 adapters, 1 thread",
    ]
    assert section.notes == ()


def test_differences_are_counted_and_said_to_be_ties_or_not() -> None:
    asked = []

    def likeliest(row: int, prompt: Sequence[int]) -> dict[int, float]:
        asked.append((row, list(prompt)))
        return {4: -1.0, 9: -1.25}

    text = compared([[1], [2]], [[3, 4, 5], [6, 7, 8]], [[3, 9, 5], [6, 7, 8]], likeliest)
    assert asked == [(0, [1, 3])]
    assert text.startswith("1 of 2 greedy answers are the same in both engines, 4 of 6 tokens")
    assert text.endswith("lie at most 0.250 apart.")
    assert "apart" not in compared([[1]], [[3]], [[3]], likeliest)
    assert "at most inf apart" in compared([[1]], [[5]], [[9]], likeliest)


def test_the_engines_page_sends_readers_to_vllms(tmp_path: Path) -> None:
    section = run._uncompared(tmp_path)
    assert section.goals == ()
    assert "(vllm.md)" in section.text
    assert all("llama.cpp" in goal.what for goal in run._uncompared(None).goals)


def test_what_is_preloaded_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libtcmalloc.so.4:/x/libiomp5.so")
    assert preloaded() == "libtcmalloc.so.4, libiomp5.so"
    monkeypatch.delenv("LD_PRELOAD")
    assert preloaded() == "nothing"
