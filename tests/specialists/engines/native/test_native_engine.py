"""The native engine over a family, beyond the conformance suite: quantized trunks, exact batches, wrong
adapters.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pilothouse.specialists.engines.base import Capacity, Head, Request, RequestFailed, Sampling
from pilothouse.specialists.engines.native import batch as native_batch
from pilothouse.specialists.engines.native import engine as native_engine
from pilothouse.specialists.engines.native.engine import NativeEngine
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.weights import AdapterFileError
from pilothouse.store.errors import UsageError
from pilothouse.store.records import Message

WORDS = (
    "boat",
    "the river",
    "What is the capital of France?",
    "Say hello in Spanish",
    "Add twelve and thirty.",
)


@pytest.fixture(scope="module")
def engine(tiny_family: Path) -> Iterator[NativeEngine]:
    made = NativeEngine(Family.open(tiny_family), 1)
    yield made
    made.close()


def prompt(engine: NativeEngine | TorchEngine, text: str) -> tuple[int, ...]:
    return engine.encode_chat([Message(role="user", content=text)])


def copied(family: Path, to: Path) -> Path:
    shutil.copytree(family, to)
    return to


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_trunk_answers_as_its_dequantized_twin(
    bits: int, tiny_family: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_family, tmp_path / "family")
    quantize_folder(tiny_family / "trunk", tmp_path / "trunk", bits, 32)
    shutil.rmtree(folder / "trunk")
    shutil.move(tmp_path / "trunk", folder / "trunk")
    family = Family.open(folder)
    native, plain = NativeEngine(family, 1, verify=False), TorchEngine(family, "cpu", verify=False)
    assert native.trunk.kinds == {bits}
    stored = (folder / "trunk" / "model.safetensors").stat().st_size
    assert native.trunk.weight_bytes < 1.3 * stored, "what is stored in few bits stays so"
    for text in WORDS:
        tokens = prompt(native, text)
        request = Request(tokens, "alpha", Sampling(max_tokens=8))
        ours, theirs = list(native.submit(request)), list(plain.submit(request))
        for a, b in zip(ours, theirs, strict=False):
            assert a.logprob == pytest.approx(b.logprob, abs=2e-2)
            if a.token != b.token:
                break
        else:
            assert len(ours) == len(theirs)
    native.close()
    plain.close()


def test_weights_can_be_rounded_when_they_are_loaded(tiny_family: Path, engine: NativeEngine) -> None:
    rounded = NativeEngine(
        Family.open(tiny_family), 1, bits=lambda name: 8 if "mlp" in name else None, capacity=Capacity(rows=2)
    )
    assert len(rounded.trunk.kinds) == 2
    assert rounded.trunk.weight_bytes < engine.trunk.weight_bytes
    assert list(rounded.submit(Request(prompt(rounded, "boat"), "alpha", Sampling(max_tokens=4))))
    rounded.close()
    with pytest.raises(UsageError, match="7 bits"):
        NativeEngine(Family.open(tiny_family), 1, bits=7)


def test_answers_of_a_batch_have_the_bits_they_have_alone(engine: NativeEngine) -> None:
    requests = [
        Request(prompt(engine, text), name, Sampling(0.9, 6, seed), taps=(0, 1), reuse=False)
        for seed, text in enumerate(WORDS)
        for name in ("trunk", "alpha", "beta", "pupil")
    ]
    streams = engine.submit_all(requests)
    together = [(list(stream), stream.states) for stream in streams]
    for request, (events, states) in zip(requests, together, strict=True):
        alone = engine.submit(request)
        assert list(alone) == events
        assert all(torch.equal(alone.states[layer], states[layer]) for layer in (0, 1))


def test_python_looks_seldom_and_answers_are_the_same(
    tiny_family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that the engine takes on by itself, beside rows that need Python at each token."""
    stop = "e"
    asked = [
        (text, name, Sampling(0.0, 13, stop=stops))
        for text in WORDS
        for name in ("trunk", "alpha", "pupil")
        for stops in ((), (stop,))
    ]
    found = []
    for most in (1, 8):
        monkeypatch.setattr(native_batch, "MOST", most)
        monkeypatch.setattr(native_batch, "PAUSE", 1e3)
        made, calls = NativeEngine(Family.open(tiny_family), 1), 0
        requests = [Request(prompt(made, text), name, sampling) for text, name, sampling in asked]
        step = made._batch.step

        def counted(rows: Any, step: Any = step) -> None:
            nonlocal calls
            calls += 1
            step(rows)

        monkeypatch.setattr(made._batch, "step", counted)
        answers = [list(stream) for stream in made.submit_all(requests)]
        drawing = made.submit(Request(prompt(made, WORDS[0]), "alpha", Sampling(0.9, 13, 5), taps=(0,)))
        found.append((answers, list(drawing), drawing.states[0].tolist(), calls))
        made.close()
    (plain, sampled, states, often), (fast, again, same, seldom) = found
    assert (fast, again, same) == (plain, sampled, states)
    assert seldom < often
    assert any(row[-1].finish_reason == "stop" for row in plain)


@pytest.mark.parametrize(
    ("rank", "inputs", "said"),
    [(None, 7, r"'alpha'.*down_proj.* 7"), (7, None, r"'alpha'.*down_proj.*rank 7 in A and 4 in B")],
    ids=["of another trunk", "of another rank"],
)
def test_an_adapter_that_does_not_fit_is_refused(
    rank: int | None, inputs: int | None, said: str, tiny_family: Path, tmp_path: Path
) -> None:
    folder = copied(tiny_family, tmp_path / "family")
    weights = folder / "specialists" / "alpha" / "adapter_model.safetensors"
    tensors = load_file(weights)
    for name, tensor in tensors.items():
        if name.endswith("layers.0.mlp.down_proj.lora_A.weight"):
            tensors[name] = torch.zeros(rank or tensor.shape[0], inputs or tensor.shape[1])
    save_file(tensors, weights, metadata={"format": "pt"})
    native = NativeEngine(Family.open(folder), 1, verify=False)
    tokens = prompt(native, "boat")
    with pytest.raises(AdapterFileError, match=said):
        native.submit(Request(tokens, "alpha"))
    assert list(native.submit(Request(tokens, "beta", Sampling(max_tokens=3)))), "the engine serves the next"
    native.close()


def test_wrong_prompts_are_named(engine: NativeEngine) -> None:
    with pytest.raises(UsageError, match="vocabulary"):
        engine.submit(Request((5, 10**6), "alpha"))
    with pytest.raises(UsageError, match="layer 2"):
        engine.probe((5, 6), (2,))
    shared = engine.probe((5, 6, 7))
    with pytest.raises(UsageError, match="no tokens"):
        engine.score(shared, "alpha", ())


def test_a_full_cache_fails_the_reading_and_nothing_else(
    tiny_family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_engine, "SLACK", 0)
    engine = NativeEngine(Family.open(tiny_family), 1, capacity=Capacity(memory=1 << 16))
    held = []

    def fill() -> None:
        for first in range(5, 105):
            held.append(engine.probe([first, *range(5, 105)]))

    with pytest.raises(RequestFailed, match="memory"):
        fill()
    assert 0 < len(held) < 100
    held.clear()
    assert engine.probe([5, 6, 7]).tokens == (5, 6, 7)
    engine.close()


def test_a_plan_is_made_once_for_the_same_vectors_and_heads(engine: NativeEngine) -> None:
    width = engine.trunk.config.hidden_size
    heads = tuple(Head(name, 0, torch.ones(width), at=at) for name, at in (("a", "end"), ("b", "prompt")))
    request = Request(prompt(engine, "boat"), "alpha", Sampling(max_tokens=3), heads=heads, reuse=False)
    batch, model = engine._batch, engine.trunk
    plan, found = batch.plan(request, model), []
    for _ in range(2):
        stream = engine.submit(request)
        found.append((list(stream), dict(stream.readings)))
        assert batch.plan(replace(request, tokens=(5,)), model) is plan
    other = replace(request, heads=(heads[0], replace(heads[1], weight=2 * heads[1].weight)))
    assert batch.plan(other, model) is not plan
    twice = engine.submit(other)
    assert len(list(twice)) == len(found[0][0])
    assert twice.readings["b"] == pytest.approx((2 * found[0][1]["b"][0],))
    assert batch.plan(replace(request, heads=()), model) is None
    assert found[0] == found[1]
    broken = replace(request, heads=(heads[0], Head("c", 0, torch.full((width,), torch.nan))))
    with pytest.raises(UsageError, match="'c'"):
        engine.submit(broken)
