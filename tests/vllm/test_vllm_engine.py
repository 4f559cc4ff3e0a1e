"""What is particular to vLLM: blocks that specialists share, requests of others, compiling, refusal."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pilothouse.specialists.adapters import read_adapter
from pilothouse.specialists.engines.base import Capacity, NotOffered, Request, Sampling
from pilothouse.specialists.engines.conformance import Suite
from pilothouse.specialists.engines.reference import Reference
from pilothouse.specialists.engines.stream import Stream
from pilothouse.specialists.engines.suite import agrees, ask
from pilothouse.specialists.engines.vllm import board, host, work
from pilothouse.specialists.engines.vllm.batch import VllmBatch
from pilothouse.specialists.engines.vllm.engine import VllmEngine
from pilothouse.specialists.engines.vllm.host import BLOCK, Host, Options
from pilothouse.specialists.engines.vllm.selftest import self_test
from pilothouse.specialists.engines.vllm.sites import Settings
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.tokenizing import ChatCodec


@pytest.fixture(scope="module")
def suite(toy: Path, reference: Reference) -> Iterator[Suite]:
    engine = VllmEngine(Family.open(toy))
    yield Suite(engine, reference, lambda capacity: engine, grain=BLOCK)
    engine.close()


def test_specialists_share_what_the_scout_read_and_taps_need_its_states(suite: Suite) -> None:
    tokens = suite.prompt("the pilot of a small boat reads the river " * 8)
    whole = len(tokens) // BLOCK * BLOCK
    assert whole >= 2 * BLOCK
    prefill = suite.engine.probe(tokens, (0,))
    for name in ("trunk", "alpha", "beta"):
        base = Request(tokens, name, Sampling(max_tokens=3))
        known = replace(base, taps=(0,), prefill=prefill)
        unknown = replace(base, taps=(1,), prefill=prefill)
        for got, reused in zip(ask(suite, base, known, unknown), (whole, whole, 0), strict=True):
            agrees(suite, got)
            assert got.stream.reused == reused


def test_a_conversation_goes_on_without_the_blocks_of_its_answer(suite: Suite) -> None:
    """The adapter's keys and values of its answer are no part of what the bare trunk reads next."""
    tokens = suite.prompt("the wheel turns the boat " * 4)
    first = ask(suite, Request(tokens, "alpha", Sampling(1.0, 3 * BLOCK, 4)))[0]
    agrees(suite, first)
    longer = (*tokens, *suite.reference.codec.invocation, *first.tokens, *suite.prompt("and then?"))
    assert len(longer) > len(tokens) + 2 * BLOCK
    for name in ("trunk", "beta"):
        got = ask(suite, Request(longer, name, Sampling(max_tokens=3)))[0]
        agrees(suite, got)
    again = ask(suite, replace(got.stream.request, specialist="alpha"))[0]
    agrees(suite, again)
    assert again.stream.reused > len(tokens), "what the trunk read of it since is shared"


def test_a_request_of_somebody_else_is_left_alone(suite: Suite) -> None:
    from vllm import SamplingParams

    assert isinstance(suite.engine, VllmEngine)
    host, batch = suite.engine.trunk, suite.engine._batch
    prompt = {"type": "token", "prompt_token_ids": list(suite.prompt("the river"))}
    params = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True, detokenize=False, logprobs=0)

    def strangers_answer() -> tuple[list[int], list[float]]:
        host.engine.add_request("stranger", prompt, params)
        while True:
            for output in host.step()[1]:
                if output.request_id == "stranger" and output.finished:
                    tokens = list(output.outputs[0].token_ids)
                    found = zip(tokens, output.outputs[0].logprobs, strict=True)
                    return tokens, [row[token].logprob for token, row in found]

    alone = strangers_answer()
    steered = Request(suite.prompt("boat"), "beta", Sampling(max_tokens=20), suite.pool(), reuse=False)
    row = batch.open(steered, Stream(steered))
    try:
        beside = strangers_answer()
    finally:
        batch.shut(row)
    assert beside[0] == alone[0]
    assert beside[1] == pytest.approx(alone[1], abs=1e-4)


def test_a_plugin_that_is_not_bound_is_found_out(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, capacity = Family.open(toy), Capacity(rows=2)
    with monkeypatch.context() as patch:
        patch.setattr(work, "steer_picked_", lambda x, *more: x)
        with pytest.raises(NotOffered, match="self-test failed: a steered request"):
            VllmEngine(family, capacity=capacity)
    monkeypatch.setattr(board.Board, "act", lambda *given: None)
    with pytest.raises(NotOffered, match="without the plugin's hook"):
        VllmEngine(family, capacity=capacity)


def test_compiled_layers_are_steered_too(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by vLLM's compiler, run by torch: adapters would turn it off, so the bare trunk does it."""
    monkeypatch.setenv("VLLM_CPU_CI_ENV", "1")
    family, capacity, settings = Family.open(toy), Capacity(rows=4), Settings(vectors=16)
    host = Host(family.trunk_folder, {}, capacity, settings, Options(compiled=True))
    try:
        assert int(host.engine.vllm_config.compilation_config.mode) > 0
        codec = ChatCodec.load(family.trunk_folder)
        self_test(VllmBatch(codec, host, capacity), tuple(codec.encode_text("0 1 2 3")))
    finally:
        host.close()


def test_a_quantized_adapter_reaches_vllm_in_full(toy: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    quantize_folder(toy / "specialists" / "alpha", small, 4, 32)
    rank, twin = host._adapter("alpha", small, tmp_path / "scratch")
    assert not (twin / "quantization.json").exists()
    ours = read_adapter("alpha", small, torch.float32, torch.device("cpu"))
    theirs = read_adapter("alpha", twin, torch.float32, torch.device("cpu"))
    assert ours.rank == theirs.rank == rank
    for name, product in ours.products.items():
        assert torch.equal(product.a, theirs.products[name].a)
        assert torch.equal(product.b, theirs.products[name].b)
