"""NSDS: the invariances it must have, planted detectors it must see, and noise in which it must see
nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from pilothouse.kernels.quant import dequantize
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.specialists.improve.groups import encode
from pilothouse.specialists.improve.nsds import rivals
from pilothouse.specialists.improve.nsds.bits import Rounded, allocate, greedy, leave_one
from pilothouse.specialists.improve.nsds.parts import Parts, parts_of, unembedding
from pilothouse.specialists.improve.nsds.scores import (
    Sensitivity,
    Switches,
    deviation,
    expressiveness,
    kept,
    kurtosis,
    plain_svd,
    product_svd,
    row_space,
    sensitivity,
    soft_or,
)
from pilothouse.store.errors import UsageError

WIDTH, HEADS, GROUPS, FEED, LAYERS = 48, 4, 2, 80, 5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(seed: int) -> Parts:
    d = WIDTH // HEADS
    shapes = [
        (HEADS * d, WIDTH), (GROUPS * d, WIDTH), (GROUPS * d, WIDTH), (WIDTH, HEADS * d),
        (FEED, WIDTH), (FEED, WIDTH), (WIDTH, FEED),
    ]  # fmt: skip
    q, k, v, o, up, gate, down = (normal(*s, seed=10 * seed + i) for i, s in enumerate(shapes))
    return Parts(q, k, v, o, up, gate, down, HEADS, GROUPS)


PARTS = [layer(seed) for seed in range(LAYERS)]
UNEMBED = normal(200, WIDTH, seed=99) * torch.linspace(3, 0.01, WIDTH)


def scored(parts: list[Parts] = PARTS, **switches: Any) -> Sensitivity:
    return sensitivity(parts, UNEMBED, Switches(**switches))


def changed(at: int, **matrices: Tensor) -> list[Parts]:
    return [replace(p, **matrices) if i == at else p for i, p in enumerate(PARTS)]


def spearman(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()
    return float(torch.corrcoef(ranks)[0, 1])


# -- numerical vulnerability -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "column"), [("up", 2), ("gate", 3), ("down", 4)])
def test_planted_outliers_raise_the_vulnerability_of_their_matrix_only(name: str, column: int) -> None:
    before = scored()
    matrix = getattr(PARTS[2], name).clone()
    matrix.view(-1)[::97] *= 20
    after = scored(changed(2, **{name: matrix}))
    off = torch.zeros_like(before.numerical, dtype=torch.bool)
    off[2, column] = True
    assert after.numerical[off] > before.numerical[off] + 10
    assert torch.equal(after.numerical[~off], before.numerical[~off])


@pytest.mark.parametrize("c", [0.25, 8.0])
def test_vulnerability_ignores_scale_and_expressiveness_follows_it(c: float) -> None:
    for mode in ("multiply", "divide"):
        before = scored(expressiveness=mode)
        matrices = {n: c * getattr(PARTS[1], n) for n in ("up", "gate", "down", "q", "o")}
        after = scored(changed(1, **matrices), expressiveness=mode)
        torch.testing.assert_close(after.numerical, before.numerical)
        torch.testing.assert_close(after.structural[1], c * before.structural[1])
        assert torch.equal(after.structural[[0, 2, 3, 4]], before.structural[[0, 2, 3, 4]])


def test_rescaling_all_weights_leaves_the_ranking() -> None:
    names = ("q", "k", "v", "o", "up", "gate", "down")
    scaled = [replace(p, **{n: 4 * getattr(p, n) for n in names}) for p in PARTS]
    for mode in ("multiply", "divide"):
        torch.testing.assert_close(
            scored(expressiveness=mode).layers, scored(scaled, expressiveness=mode).layers
        )


def test_kurtosis_is_that_of_the_definition() -> None:
    x = normal(5000).double()
    z = (x - x.mean()) / x.std(correction=0)
    torch.testing.assert_close(kurtosis(x), z.pow(4).mean() - 3)
    assert kurtosis(torch.ones(9)) == 0
    # two values, equally often: the least there is
    torch.testing.assert_close(kurtosis(torch.tensor([1.0, -1.0] * 8)), torch.tensor(-2.0).double())


# -- structure ---------------------------------------------------------------------------------------------


def rotated(parts: Parts, turn: Tensor) -> Parts:
    """The same layer in another basis of the residual stream."""
    assert parts.gate is not None
    reads = {n: getattr(parts, n) @ turn for n in ("q", "k", "v", "up", "gate")}
    return replace(parts, **reads, o=turn.T @ parts.o, down=turn.T @ parts.down)


def test_a_rotation_keeps_the_spectrum_and_blurs_planted_detectors() -> None:
    detectors = torch.zeros(FEED, WIDTH)
    for row in range(24):
        detectors[row, 2 * row % WIDTH] = 5.0 + row
    detectors += 1e-3 * normal(FEED, WIDTH)
    turn = torch.linalg.qr(normal(WIDTH, WIDTH, seed=7)).Q
    planted = replace(PARTS[0], up=detectors)
    turned = rotated(planted, turn)
    torch.testing.assert_close(plain_svd(detectors)[1], plain_svd(turned.up)[1], atol=1e-4, rtol=1e-4)
    sharp, blurred = plain_svd(detectors), plain_svd(turned.up)
    k = kept(sharp[1], 0.9)
    assert torch.log1p(kurtosis(sharp[2][:, :k]).relu()).mean() > 3
    assert torch.log1p(kurtosis(blurred[2][:, :k]).relu()).mean() < 0.3
    for mode in ("multiply", "divide"):
        how = Switches(expressiveness=mode)  # type: ignore[arg-type]
        one = sensitivity([planted, PARTS[1]], UNEMBED, how).structural[0, 2]
        two = sensitivity([turned, PARTS[1]], UNEMBED @ turn, how).structural[0, 2]
        assert one > 2 * two
    # without roles, only the spectrum counts, which a rotation keeps
    plain = Switches(roles=False)
    one = sensitivity([planted, PARTS[1]], UNEMBED, plain).structural[0]
    two = sensitivity([turned, PARTS[1]], UNEMBED @ turn, plain).structural[0]
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_writing_density_is_a_share_and_one_inside_the_space() -> None:
    space = row_space(UNEMBED, 0.9)
    assert 2 <= space.shape[1] < WIDTH
    u = torch.linalg.qr(normal(WIDTH, 6, seed=3).double()).Q
    density = (space.T @ u).norm(dim=0)
    assert ((density >= 0) & (density <= 1 + 1e-9)).all()
    torch.testing.assert_close((space.T @ space[:, :3]).norm(dim=0), torch.ones(3).double())
    outside = torch.linalg.qr(torch.cat([space, u], 1)).Q[:, space.shape[1] :]
    assert (space.T @ outside).norm(dim=0).max() < 1e-9


def test_writers_into_the_unembedding_score_higher() -> None:
    space = row_space(UNEMBED, 0.9).float()
    away = torch.linalg.qr(torch.cat([space, normal(WIDTH, WIDTH, seed=5)], 1)).Q[:, space.shape[1] :]
    into = space @ space.T @ PARTS[0].down
    beside = away @ away.T @ PARTS[0].down
    beside *= into.norm() / beside.norm()
    found = sensitivity([replace(PARTS[0], down=into), replace(PARTS[0], down=beside)], UNEMBED, Switches())
    assert found.structural[0, 4] > 5 * found.structural[1, 4]


@pytest.mark.parametrize(("left", "right"), [(3, 7), (7, 3), (5, 5)])
def test_products_are_taken_apart_without_being_formed(left: int, right: int) -> None:
    a, b = normal(2, left, seed=1), normal(2, right, seed=2)
    u, s, v = product_svd(a, b)
    torch.testing.assert_close((u * s) @ v.T, (a.T @ b).double(), atol=1e-5, rtol=1e-5)


def test_grouped_heads_share_their_keys() -> None:
    pairs = PARTS[0].head_pairs()
    d = WIDTH // HEADS
    for h, (q, k, o, v) in enumerate(pairs):
        g = h // (HEADS // GROUPS)
        assert torch.equal(q, PARTS[0].q[h * d : (h + 1) * d])
        assert torch.equal(k, PARTS[0].k[g * d : (g + 1) * d])
        assert torch.equal(v, PARTS[0].v[g * d : (g + 1) * d])
        assert torch.equal(o, PARTS[0].o[:, h * d : (h + 1) * d])


def test_energy_keeps_at_least_two_and_what_it_says() -> None:
    s = torch.tensor([3.0, 1.0, 0.5, 0.1])
    assert kept(s, 0.1) == 2
    assert kept(s, 0.99) == 3
    assert kept(s, 1.0) == 4
    one = expressiveness(torch.ones(4), torch.ones(4), Switches())
    assert one == pytest.approx(16)
    assert expressiveness(torch.ones(4), torch.ones(4), Switches(expressiveness="divide")) == pytest.approx(1)
    assert expressiveness(torch.ones(4), torch.zeros(4), Switches()) == 0


# -- fusing ------------------------------------------------------------------------------------------------


def test_product_geometric_and_softplus_rank_alike() -> None:
    z = normal(40, 10).double()
    orders = [soft_or(z, union).argsort().tolist() for union in ("softplus", "product", "geometric")]
    assert orders[0] == orders[1] == orders[2]
    halves = [soft_or(z[:, :5], "product"), soft_or(z[:, 5:], "product")]
    nested = 1 - (1 - halves[0]) * (1 - halves[1])
    torch.testing.assert_close(nested, soft_or(z, "product"))


def test_the_wider_deviation_hardly_moves_the_ranking() -> None:
    raw = normal(24, 10).exp()
    a, b = (soft_or(deviation(raw, factor)) for factor in (1.0, 1.4826))
    assert spearman(a, b) > 0.97


def test_columns_that_do_not_vary_say_nothing() -> None:
    raw = torch.stack([torch.ones(6), torch.tensor([1.0, 1, 1, 1, 1, 9])], 1)
    z = deviation(raw)
    assert (z[:, 0] == 0).all()
    assert z[5, 1] > 2 > z[0, 1].abs()  # MAD is 0 here: the standard deviation stands in


def test_random_models_have_no_stable_ranking() -> None:
    """The negative control: what is found in noise must differ from seed to seed."""
    rankings = [
        sensitivity([layer(100 * s + i) for i in range(12)], normal(200, WIDTH, seed=s), Switches()).layers
        for s in range(6)
    ]
    pairs = [spearman(a, b) for i, a in enumerate(rankings) for b in rankings[:i]]
    assert abs(float(torch.tensor(pairs).median())) < 0.3


# -- models, budgets, rivals -------------------------------------------------------------------------------

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}


def kinds() -> dict[str, Any]:
    torch.manual_seed(0)
    gpt2 = GPT2Config(vocab_size=64, n_embd=32, n_inner=40, n_layer=3, n_head=4, n_positions=32)
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2)),
        "phi3": Phi3ForCausalLM(Phi3Config(**SHAPE, num_key_value_heads=2)),
        "neox": GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
        "gpt2": GPT2LMHeadModel(gpt2),
    }


def test_parts_are_found_in_other_kinds_of_models() -> None:
    for kind, model in kinds().items():
        parts = parts_of(model)
        assert [p.down.shape for p in parts] == [(32, 40)] * 3, kind
        assert all(p.q.shape == (32, 32) and p.up.shape == (40, 32) for p in parts), kind
        assert all(name in dict(model.named_parameters()) for p in parts for name in p.names), kind
        assert torch.isfinite(sensitivity(parts, unembedding(model)).layers).all(), kind
        gained = parts_of(model, gains=True)
        assert torch.equal(gained[0].q, parts[0].q), "untrained gains are 1"


@pytest.mark.parametrize(("budget", "many"), [(2, 0), (2.5, 2), (3, 4), (4, 8)])
def test_budgets_buy_whole_layers(budget: float, many: int) -> None:
    scores = [0.1, 9, 3, 3, 2, 8, 0, 5]
    bits = allocate(scores, budget)
    assert bits.count(4) == many
    assert sum(bits) <= budget * len(scores)
    best = sorted(range(8), key=lambda i: (-scores[i], i))[:many]
    assert all(bits[i] == 4 for i in best)


def test_impossible_budgets_are_refused() -> None:
    for budget, high, low in ((5, 4, 2), (1, 4, 2), (3, 4, 4), (5, 7, 4)):
        with pytest.raises(UsageError, match="budget"):
            allocate([1, 2], budget, high, low)


def test_layers_take_bits_and_give_their_weights_back() -> None:
    model = kinds()["llama"]
    ids = torch.arange(24)[None]
    parts = parts_of(model)
    rounded = Rounded(model, [p.names for p in parts], group=16)
    before = {n: p.clone() for n, p in model.named_parameters()}

    def loss() -> float:
        with torch.no_grad():
            return float(model(ids, labels=ids).loss)

    start = loss()
    name = parts[1].names[0]
    seen = []

    def spy() -> float:
        seen.append(dict(model.named_parameters())[name].clone())
        return loss()

    rises = leave_one(rounded, spy, low=2)
    assert len(rises) == 3
    assert torch.equal(seen[0], before[name])
    assert torch.equal(seen[2], dequantize(encode(before[name].detach(), 2, 16)))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert loss() == start
    found = greedy(rounded, loss, 3.4, 4, 2)
    assert sorted(found) == [2, 4, 4]
    one_low = [rounded.loss([2 if i == j else 4 for i in range(3)], loss) for j in range(3)]
    assert found.index(2) == one_low.index(min(one_low))


def test_rivals_find_the_layer_they_look_for() -> None:
    loud = PARTS[3].up.clone()
    loud.view(-1)[::97] *= 30
    parts = changed(3, up=loud)
    assert int(rivals.kurtboost(parts).argmax()) == 3
    assert int(rivals.mse(parts).argmax()) == 3
    assert int(rivals.zd(parts).argmin()) == 3, "few weights lie beyond one deviation where some are huge"
    assert int(rivals.ewq(parts).argmin()) == 3, "a peaked softmax has little entropy"
    assert rivals.ends(5).tolist() == [2, 1, 0, 1, 2]
    for name, score in rivals.BY_WEIGHTS.items():
        assert score(parts).shape == (LAYERS,), name


def test_rivals_by_data_see_a_layer_that_does_nothing() -> None:
    model = kinds()["llama"].eval()
    for name, p in model.named_parameters():
        p.data.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        model.get_submodule(f"model.layers.1.{name}").weight.data.zero_()
    anatomy, rows = Anatomy.of(model), [list(range(10)), list(range(20, 28))]
    assert rivals.lim(anatomy, rows)[1] == pytest.approx(0, abs=1e-6)
    assert rivals.lsaq(anatomy, rows, top=8)[1] == 0
    assert (rivals.lim(anatomy, rows)[[0, 2]] > 0.01).all()
