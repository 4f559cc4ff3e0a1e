"""Rows of different lengths in one pass give what each row gives alone, on every kind of decoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

from pilothouse.specialists.adapters import Adapter, AdapterBank, LowRank, linear_maps, shape_of
from pilothouse.specialists.engines.base import NotOffered
from pilothouse.specialists.engines.huggingface import attending, check
from pilothouse.specialists.engines.rows import RowCache, RowsPass, Segment, attention, run
from pilothouse.specialists.lean import LeanDecoder
from pilothouse.specialists.leanconfig import LeanConfig

CPU = torch.device("cpu")
SIZES = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 3,
    "pad_token_id": 0, "initializer_range": 0.3,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
KINDS: dict[str, Any] = {
    "llama": lambda: hf.LlamaConfig(**SIZES | GROUPED),
    "qwen2": lambda: hf.Qwen2Config(**SIZES | {"num_key_value_heads": 2}),
    "qwen3": lambda: hf.Qwen3Config(**SIZES | GROUPED),
    "mistral": lambda: hf.MistralConfig(**SIZES | GROUPED, sliding_window=6),
    "gemma": lambda: hf.GemmaConfig(**SIZES | {"num_key_value_heads": 1, "head_dim": 8}),
    "gemma2": lambda: hf.Gemma2Config(**SIZES | GROUPED, sliding_window=6),
    "gemma3": lambda: hf.Gemma3TextConfig(**SIZES | GROUPED | {"num_hidden_layers": 6}, sliding_window=6),
    "phi": lambda: hf.PhiConfig(**SIZES),
    "phi3": lambda: hf.Phi3Config(**SIZES),
    "gpt2": lambda: hf.GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SIZES),
}
CUTS = ((0, 5, 6, 17), (0, 1), (0, 9))


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    return hf.AutoModelForCausalLM.from_config(KINDS[kind]()).eval()


def sequences() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(4, 64, (cuts[-1],), generator=generator).tolist() for cuts in CUTS]


def in_rows(model: Any, layers: int) -> list[torch.Tensor]:
    """Read three rows chunk by chunk, in passes that they share; each pass twice, as after a failure."""
    rows, caches = sequences(), [RowCache(layers, 17) for _ in CUTS]
    found: list[list[torch.Tensor]] = [[] for _ in rows]
    for step in range(3):
        members = [i for i, cuts in enumerate(CUTS) if step + 1 < len(cuts)]
        segments = [Segment(caches[i], rows[i][CUTS[i][step] : CUTS[i][step + 1]]) for i in members]
        shared = RowsPass(segments, CPU)
        run(model, shared)
        logits = run(model, shared)
        shared.advance()
        for i, part in zip(members, logits.split([len(s.tokens) for s in segments]), strict=True):
            found[i].append(part)
    return [torch.cat(parts) for parts in found]


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_rows_equal_plain_passes(kind: str) -> None:
    model = model_of(kind)
    layers = model.config.num_hidden_layers
    plain = [model(torch.tensor([row])).logits[0] for row in sequences()]
    for expected, found in zip(plain, in_rows(model, layers), strict=True):
        assert torch.allclose(found, expected, atol=1e-4)
    assert torch.equal(model(torch.tensor([sequences()[0]])).logits[0], plain[0]), "the model is as before"
    # and on from the model's own cache, in which sliding windows have dropped what is behind them
    cache, row = hf.DynamicCache(config=model.config), sequences()[0]
    model(torch.tensor([row[:12]]), past_key_values=cache, use_cache=True)
    rest = RowsPass([Segment(RowCache.of(cache, 12, 17), row[12:])], CPU)
    assert torch.allclose(run(model, rest), plain[0][12:], atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@torch.inference_mode()
def test_lean_rows_equal_plain_passes(kind: str) -> None:
    model = model_of(kind)
    lean = LeanDecoder(LeanConfig.read(model.config.to_dict()))
    lean.load_state_dict({name: model.state_dict()[name] for name in lean.state_dict()}, assign=True)
    plain = [model(torch.tensor([row])).logits[0] for row in sequences()]
    for expected, found in zip(plain, in_rows(lean.eval(), 2), strict=True):
        assert torch.allclose(found, expected, atol=1e-4)


def test_a_fork_grows_apart() -> None:
    generator = torch.Generator().manual_seed(2)

    def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(count, 2, 4, generator=generator), torch.randn(count, 2, 4, generator=generator)

    first = RowCache(1, 8)
    first.append(0, *pairs(5))
    first.advance(5)
    fork = first.fork(3, 8)
    assert fork is not None
    before = first.append(0, *pairs(0))[0].clone()
    new = pairs(2)
    assert torch.equal(fork.append(0, *new)[0], torch.cat((before[:3], new[0])))
    assert torch.equal(first.append(0, *pairs(0))[0], before)
    assert first.fork(6, 8) is None
    windowed = first.fork(5, 8)
    assert windowed is not None
    windowed.held[0] = 4  # a window dropped the first token
    assert windowed.fork(4, 8) is None, "what a shorter row needs is gone"


@pytest.mark.parametrize(("new", "total"), [(1, 1), (1, 9), (5, 5), (3, 9)])
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_attention_equals_its_definition(
    new: int, total: int, window: int | None, softcap: float | None
) -> None:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (
        torch.randn(n, heads, 8, generator=generator) for n, heads in ((new, 4), (total, 2), (total, 2))
    )
    found = attention(q, k, v, 0.3, window, softcap)
    for i in range(new):
        for head in range(4):
            last = total - new + i
            seen = range(max(0, last - window + 1) if window else 0, last + 1)
            scores = torch.stack([0.3 * q[i, head] @ k[t, head // 2] for t in seen])
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            expected = scores.softmax(0) @ torch.stack([v[t, head // 2] for t in seen])
            assert torch.allclose(found[i, head], expected, atol=1e-5)


def test_a_model_that_attends_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    check(model)
    monkeypatch.setattr(model.config, "model_type", "unheard-of")
    check(model)
    attend = type(model.model.layers[0].self_attn).forward

    def backwards(self: Any, hidden_states: torch.Tensor, *rest: Any, **named: Any) -> Any:
        mixed, weights = attend(self, hidden_states, *rest, **named)
        return mixed.cumsum(1), weights  # looks at its neighbours behind the interface's back

    monkeypatch.setattr(type(model.model.layers[0].self_attn), "forward", backwards)
    with pytest.raises(NotOffered, match="unheard-of"):
        check(model)


def test_attention_is_put_back_after_an_error() -> None:
    model = model_of("llama")
    before = model.config._attn_implementation
    with pytest.raises(ZeroDivisionError), attending(model, RowsPass([Segment(RowCache(2, 3), [1])], CPU)):
        raise ZeroDivisionError
    assert model.config._attn_implementation == before


@torch.inference_mode()
def test_a_mixture_of_adapters_equals_one_at_a_time() -> None:
    model = model_of("llama")
    bank, generator = AdapterBank(model), torch.Generator().manual_seed(4)
    for rank, name in enumerate(("a", "b", "c"), 2):
        products = {}
        for target, module in list(linear_maps(model).items())[rank - 2 :]:  # not everywhere
            outputs, inputs = shape_of(module)
            down, up = (
                torch.randn(rank, inputs, generator=generator),
                torch.randn(outputs, rank, generator=generator),
            )
            products[target] = LowRank(down, up, 0.1 * rank)
        bank.add(Adapter(name, products, rank))
    ids = torch.tensor([sequences()[2]])
    module = model.model.layers[1].mlp.up_proj
    x = torch.randn(1, 9, 32, generator=generator)
    bare = module(x)
    for groups in ([("a", [0, 3]), ("c", [8])], [("b", [1, 0]), ("a", [2, 3, 4, 5, 6, 7, 8])]):
        with bank.active_tokens(bank.mixture(groups, 9)):
            mixed = module(x)
        for name, places in groups:
            with bank.active(name):
                assert torch.allclose(mixed[0, places], module(x)[0, places], atol=1e-4)
        idle = [at for at in range(9) if all(at not in places for _, places in groups)]
        assert torch.equal(mixed[0, idle], bare[0, idle])
    mixture = bank.mixture([("a", [0]), ("b", [1])], 9)
    assert set(mixture.names) == {"a", "b", "c"}, "what was mixed before stays side by side"
    bank.remove("c")
    assert set(bank.mixture([("a", [0])], 9).names) == {"a", "b"}
    with pytest.raises(KeyError):
        bank.mixture([("c", [0])], 9)
    assert torch.isfinite(model(ids).logits).all()
