"""Taps equal Hugging Face's own hidden states on every supported kind; pooling and sites by hand."""

from operator import attrgetter

import pytest
import torch
from tiny import CONFIGS, FINAL_NORM, LAYERS, WIDTH, model, prompt
from torch import nn
from transformers import LlamaModel, T5Config, T5ForConditionalGeneration

from pilothouse.router.taps import (
    ARRAY_POOLINGS,
    POOLINGS,
    Site,
    Taps,
    decoder_layers,
    pool_attention,
    pool_last,
    pool_max_rolling_mean,
    pool_mean,
)
from pilothouse.store.errors import UsageError


@pytest.mark.parametrize("kind", CONFIGS)
def test_taps_are_the_residual_stream(kind: str) -> None:
    trunk, ids = model(kind), prompt(rows=2)
    with torch.no_grad(), Taps(trunk, range(LAYERS)) as taps:
        wanted = trunk(ids, output_hidden_states=True).hidden_states
    for layer in range(LAYERS - 1):
        assert torch.equal(taps.states[layer], wanted[layer + 1])
    # Hugging Face's last entry is after the final norm; the tap is before it.
    norm = attrgetter(FINAL_NORM.get(kind, "model.norm"))(trunk)
    with torch.no_grad():
        torch.testing.assert_close(norm(taps.states[LAYERS - 1]), wanted[LAYERS])
    assert not torch.allclose(taps.states[LAYERS - 1], wanted[LAYERS])
    assert taps.states[0].shape == (2, 11, WIDTH)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kind_has_its_layers(kind: str) -> None:
    assert len(decoder_layers(model(kind))) == LAYERS


def test_bare_models_have_layers_too() -> None:
    assert len(decoder_layers(LlamaModel(CONFIGS["llama"]))) == LAYERS


def test_taps_leave_no_hook_and_hold_the_last_pass() -> None:
    trunk = model()
    with torch.no_grad():
        with Taps(trunk, [1]) as taps:
            trunk(prompt(5))
            trunk(prompt(9))
            assert taps.states[1].shape[1] == 9
        kept = taps.states[1]
        trunk(prompt(4))
    assert taps.states[1] is kept
    assert not any(layer._forward_hooks for layer in decoder_layers(trunk))


def test_hooks_go_when_the_pass_fails() -> None:
    trunk = model()
    with pytest.raises(IndexError), Taps(trunk, [0]):
        trunk(torch.tensor([[10**6]]))
    assert not any(layer._forward_hooks for layer in decoder_layers(trunk))


def test_other_models_are_refused_by_name() -> None:
    t5 = T5ForConditionalGeneration(
        T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    for wrong, said in ((t5, "'t5'"), (nn.Linear(2, 2), "Linear")):
        with pytest.raises(UsageError, match=said):
            decoder_layers(wrong)


@pytest.mark.parametrize("layer", [-1, LAYERS])
def test_missing_layers_are_refused(layer: int) -> None:
    with pytest.raises(UsageError, match=f"layer {layer} .* 0 to {LAYERS - 1}"):
        Taps(model(), [layer])


# -- pooling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 7, 65])
@pytest.mark.parametrize("tokens", [1, 2, 8, 9, 30])
def test_rolling_mean_by_hand(tokens: int, width: int) -> None:
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(tokens))
    rest = x[1:] if tokens > 1 else x
    span = min(8, len(rest))
    means = torch.stack([rest[i : i + span].mean(0) for i in range(len(rest) - span + 1)])
    torch.testing.assert_close(pool_max_rolling_mean(x), means.amax(0))
    assert torch.equal(pool_last(x), x[-1])


def test_rolling_mean_ignores_the_sink_and_finds_the_burst() -> None:
    x = torch.zeros(40, 2)
    x[0] = 1000.0
    x[20:28, 1] = 1.0
    assert pool_max_rolling_mean(x).tolist() == [0.0, 1.0]


def test_attention_finds_what_is_like_the_last_token() -> None:
    make = torch.Generator().manual_seed(0)
    noise = torch.randn(60, WIDTH, generator=make)
    query, value = torch.randn(2, WIDTH, generator=make)
    states = noise.clone()
    states[20], states[-1] = 3 * query + value, 3 * query
    found = nn.functional.cosine_similarity(pool_attention(states), states[20], dim=0)
    spread = nn.functional.cosine_similarity(pool_mean(states), states[20], dim=0)
    assert float(found) > 0.9 > float(spread) + 0.2
    # weights by hand; without a likeness that stands out it is about the mean
    weights = torch.softmax(nn.functional.cosine_similarity(states[1:-1], states[-1:], dim=1) / 0.5, 0)
    torch.testing.assert_close(pool_attention(states, 0.5), weights @ states[1:-1])
    torch.testing.assert_close(pool_attention(noise, 1e6), noise[1:-1].mean(0), rtol=1e-3, atol=1e-4)
    for length in (1, 2):
        torch.testing.assert_close(pool_attention(noise[:length]), noise[length - 1])
    with pytest.raises(UsageError, match="temperature"):
        pool_attention(noise, 0.0)


def test_bad_states_are_refused() -> None:
    for bad, said in (
        (torch.ones(0, 3), r"\[0, 3\]"),
        (torch.ones(3), r"\[3\]"),
        (torch.full((2, 2), float("nan")), "not finite"),
    ):
        for pool in (pool_last, pool_max_rolling_mean):
            with pytest.raises(UsageError, match=said):
                pool(bad)
    with pytest.raises(UsageError, match="window is 0"):
        pool_max_rolling_mean(torch.ones(2, 2), window=0)


@pytest.mark.parametrize("tokens", [1, 2, 8, 9, 30])
def test_arrays_are_pooled_to_the_bits_of_tensors(tokens: int) -> None:
    site = Site((0, 3), tuple(ARRAY_POOLINGS), "turn")
    states = {layer: torch.randn(tokens + 2, 33) for layer in site.layers}
    wanted = torch.cat([POOLINGS[name](states[layer][2:]) for layer, name in site.blocks])
    assert torch.equal(site.vector(states, 2), wanted)
    assert torch.equal(site.vector({layer: x.requires_grad_() for layer, x in states.items()}, 2), wanted)


def test_states_that_cannot_be_pooled_are_refused() -> None:
    site, large = Site((0,)), torch.full((4, 3), 1e30)
    assert torch.equal(site.vector({0: large}), large[-1])  # though its squares overflow
    for bad in (torch.inf, -torch.inf, torch.nan):
        large[1, 2] = bad
        with pytest.raises(UsageError, match="not finite"):
            site.vector({0: large})
    with pytest.raises(UsageError, match=r"\[0, 3\]"):
        site.vector({0: torch.ones(0, 3)})


def test_site_lays_blocks_out_layer_by_layer() -> None:
    site = Site((4, 2), ("last", "max_rolling_mean"))
    states = {2: torch.randn(12, 5), 4: torch.randn(1, 12, 5)}
    x = site.vector(states)
    assert x.shape == (site.size(5),) == (20,)
    assert torch.equal(x[:5], states[4][0, -1])
    assert torch.equal(x[15:], pool_max_rolling_mean(states[2]))
    assert site.name == "L4+L2:last+max_rolling_mean"
    assert Site(**site.to_json()) == site


@pytest.mark.parametrize("turn", [0, 1, 7, 11])
def test_a_site_of_the_last_turn_pools_nothing_before_it(turn: int) -> None:
    states = {1: torch.randn(12, 5)}
    states[1][:turn] += 100.0  # what came before would drown the rest
    site = Site((1,), ("last", "max_rolling_mean", "mean"), "turn")
    assert torch.equal(site.vector(states, turn), site.vector({1: states[1][turn:]}))
    whole = Site(site.layers, site.poolings)
    assert torch.equal(whole.vector(states, turn), whole.vector(states))
    assert (float(whole.vector(states)[5:].max()) > 20) == (turn > 1)
    assert site.name == "L1:last+max_rolling_mean+mean@turn"
    assert Site(**site.to_json()) == site
    assert Site(**{"layers": [1], "poolings": ["last"]}).span == "conversation"


def test_a_turn_behind_the_last_token_leaves_nothing_to_pool() -> None:
    with pytest.raises(UsageError, match=r"\[0, 2\]"):
        Site((1,), ("last",), "turn").vector({1: torch.ones(2, 2)}, 2)


def test_site_vector_equals_solo_in_a_padded_world() -> None:
    """A prompt's vector does not depend on what else the model saw."""
    trunk, site, ids = model(), Site((1,), ("last", "max_rolling_mean")), prompt(10)
    with torch.no_grad(), Taps(trunk, site.layers) as taps:
        trunk(ids)
        alone = site.vector(taps.states)
        trunk(torch.cat([ids, prompt(10, seed=5)]))
        together = site.vector({1: taps.states[1][0]})
    torch.testing.assert_close(alone, together)


@pytest.mark.parametrize(
    ("layers", "poolings", "said"),
    [
        ((), ("last",), "at least one"),
        ((1,), (), "at least one"),
        ((1,), ("median",), "median"),
        ((1, 1), ("last",), "twice"),
    ],
)
def test_bad_sites_are_refused(layers: tuple[int, ...], poolings: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Site(layers, poolings)


def test_an_unknown_span_is_refused() -> None:
    with pytest.raises(UsageError, match="'prompt'; choose one of conversation, turn"):
        Site((1,), ("last",), "prompt")  # type: ignore[arg-type]


def test_missing_states_are_named() -> None:
    with pytest.raises(UsageError, match=r"needs layers \[3\]"):
        Site((1, 3)).vector({1: torch.ones(2, 2)})
