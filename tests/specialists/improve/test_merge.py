"""Merging: endpoints are the models themselves, planted movers are found, and every rival does what it
says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pilothouse.specialists.improve.merge import FILTERS, Merging, merge
from pilothouse.specialists.improve.neurons import Heads, units_of
from pilothouse.store.errors import UsageError

HEADS = Heads(4, 2)
D, F, LAYERS = 16, 20, 2


def weights(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {"model.embed_tokens.weight": torch.randn(30, D, generator=generator)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes = {
            f"{at}.self_attn.q_proj": (D, D),
            f"{at}.self_attn.k_proj": (D // 2, D),
            f"{at}.self_attn.v_proj": (D // 2, D),
            f"{at}.self_attn.o_proj": (D, D),
            f"{at}.mlp.gate_proj": (F, D),
            f"{at}.mlp.up_proj": (F, D),
            f"{at}.mlp.down_proj": (D, F),
        }
        found |= {f"{n}.weight": torch.randn(s, generator=generator) for n, s in shapes.items()}
        found[f"{at}.input_layernorm.weight"] = torch.ones(D)
    return {n: t.to(dtype) for n, t in found.items()}


def moved(base: dict[str, Tensor], size: float, seed: int = 5) -> dict[str, Tensor]:
    noise = weights(seed)
    return {n: (t.float() + size * noise[n]).to(t.dtype) for n, t in base.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_endpoints_are_the_tuned_model_and_the_base_bit_for_bit(dtype: torch.dtype) -> None:
    base = weights(0, dtype)
    tuned = moved(base, 0.3)
    cases = [
        (Merging("fusion", weak=1.0, strong=1.0), tuned),
        (Merging("fusion", weak=0.0, strong=0.0), base),
        (Merging("task", weight=1.0), tuned),
        (Merging("task", weight=0.0), base),
        (Merging("ties", top=1.0), tuned),
        (Merging("dare", drop=0.0), tuned),
        (Merging("della", drop=0.0, window=0.0), tuned),
        (Merging("breadcrumbs", low=0.0, high=0.0), tuned),
    ]
    for how, wanted in cases:
        found = merge(base, [tuned], how, HEADS)
        for name, tensor in wanted.items():
            assert found[name].dtype == dtype
            assert torch.equal(found[name], tensor), (how.method, name)


def planted() -> tuple[dict[str, Tensor], dict[str, Tensor], list[int]]:
    """Four FFN neurons of layer 1 move far, everything else a little."""
    base = weights(0)
    tuned, movers = moved(base, 0.01), [1, 7, 8, 19]
    at = "model.layers.1.mlp"
    for row in movers:
        tuned[f"{at}.gate_proj.weight"][row] += 2.0
        tuned[f"{at}.up_proj.weight"][row] -= 1.0
        tuned[f"{at}.down_proj.weight"][:, row] += 1.5
    return base, tuned, movers


def test_neurons_that_moved_are_restored_and_the_others_suppressed() -> None:
    base, tuned, movers = planted()
    found = merge(base, [tuned], Merging("fusion", top=4 / F, weak=0.0), HEADS)
    name = "model.layers.1.mlp.down_proj.weight"
    still = [i for i in range(F) if i not in movers]
    assert torch.equal(found[name][:, movers], tuned[name][:, movers])
    assert torch.equal(found[name][:, still], base[name][:, still])
    up = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(found[up][movers], tuned[up][movers])
    inverted = merge(base, [tuned], Merging("fusion", top=4 / F, weak=0.0, rule="inverted"), HEADS)
    assert torch.equal(inverted[name][:, movers], base[name][:, movers])
    embed = "model.embed_tokens.weight"
    assert torch.equal(found[embed], tuned[embed]), "what is no neuron is copied"


def test_a_shift_is_measured_by_itself_or_beside_the_neurons_size() -> None:
    base, tuned, movers = planted()
    at, small = "model.layers.1.mlp", 3
    for name in ("gate_proj", "up_proj"):
        base[f"{at}.{name}.weight"][small] *= 1e-4
        tuned[f"{at}.{name}.weight"][small] = 5 * base[f"{at}.{name}.weight"][small]
    base[f"{at}.down_proj.weight"][:, small] *= 1e-4
    tuned[f"{at}.down_proj.weight"][:, small] = 5 * base[f"{at}.down_proj.weight"][:, small]
    name = f"{at}.down_proj.weight"
    kept = {}
    for measure in ("relative", "absolute"):
        how = Merging("fusion", top=1 / F, weak=0.0, measure=measure)
        found = merge(base, [tuned], how, HEADS)[name]
        kept[measure] = (found != base[name]).any(0).nonzero().flatten().tolist()
    assert kept["relative"] == [small], "it is five times as long, short as it is"
    assert kept["absolute"][0] in movers


def test_a_length_is_reached_by_neurons_while_embeddings_are_copied() -> None:
    base = weights(0)
    tuned = moved(base, 0.3)
    found = merge(base, [tuned], Merging("fusion", top=0.5, weak=0.0, norm=0.6), HEADS)
    for name in base:
        assert torch.equal(found[name], tuned[name]) or "_proj" in name
    plain = merge(base, [tuned], Merging("task", norm=0.6), HEADS)
    assert not torch.equal(plain["model.embed_tokens.weight"], tuned["model.embed_tokens.weight"])
    little = merge(base, [tuned], Merging("fusion", norm=0.05), HEADS)
    change = sum(float((little[n] - base[n]).square().sum()) for n in base) ** 0.5
    whole = sum(float((tuned[n] - base[n]).square().sum()) for n in base) ** 0.5
    assert change == pytest.approx(0.05 * whole, rel=1e-3), "copies that are too long are scaled too"


def test_random_neurons_are_as_many_and_others() -> None:
    base, tuned, movers = planted()
    how = Merging("fusion", top=4 / F, weak=0.0, rule="random")
    name = "model.layers.1.mlp.down_proj.weight"
    models = [merge(base, [tuned], replace(how, seed=s), HEADS) for s in range(6)]
    chosen = [(model[name] != base[name]).any(0) for model in models]
    assert all(int(c.sum()) == 4 for c in chosen)
    hits = sum(int(c[movers].sum()) for c in chosen)
    assert hits < 12, "24 would be the located ones"


def test_value_channels_take_their_output_columns_along() -> None:
    groups = list(units_of(weights(0), HEADS))
    assert len(groups) == 4 * LAYERS
    values = groups[1]
    axis, owner = values.members["model.layers.0.self_attn.o_proj.weight"]
    assert axis == 1
    # heads 0 and 1 share the first four value rows, heads 2 and 3 the next four
    assert owner.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]
    total = sum(float(g.norms(weights(0)).square().sum()) for g in groups)
    wanted = sum(float(t.square().sum()) for n, t in weights(0).items() if "_proj" in n)
    assert total == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("method", sorted(FILTERS))
def test_lengths_can_be_matched(method: Any) -> None:
    base = weights(0)
    tuned = moved(base, 0.3)
    found = merge(base, [tuned], Merging(method, norm=0.4, low=0.3), HEADS)

    def length(model: dict[str, Tensor]) -> float:
        return sum(float((model[n] - base[n]).square().sum()) for n in base) ** 0.5

    assert length(found) == pytest.approx(0.4 * length(tuned), rel=1e-3)


def test_rivals_follow_their_definitions() -> None:
    base = {n: torch.zeros_like(t) for n, t in weights(0).items()}
    a, b = weights(1), weights(2)
    name = "model.layers.0.mlp.up_proj.weight"
    ties = merge(base, [a, b], Merging("ties", top=1.0), HEADS)[name]
    same = a[name].sign() == b[name].sign()
    torch.testing.assert_close(ties[same], ((a[name] + b[name]) / 2)[same])
    larger = torch.where(a[name].abs() > b[name].abs(), a[name], b[name])
    torch.testing.assert_close(ties[~same], larger[~same])
    trimmed = merge(base, [a], Merging("ties", top=0.25), HEADS)[name]
    assert int((trimmed != 0).sum()) == round(0.25 * a[name].numel())
    means = torch.stack(
        [merge(base, [a], Merging("dare", drop=0.5, seed=s), HEADS)[name] for s in range(200)]
    ).mean(0)
    assert (means - a[name]).abs().mean() < 0.1, "dropping and rescaling keeps the mean"
    how = Merging("della", drop=0.5, window=0.8)
    left = [merge(base, [a], replace(how, seed=s), HEADS)[name] != 0 for s in range(60)]
    della = torch.stack(left).float().mean(0)
    order = a[name].abs().argsort(1)
    assert della.gather(1, order[:, -3:]).mean() > della.gather(1, order[:, :3]).mean() + 0.5
    crumbs = merge(base, [a], Merging("breadcrumbs", low=0.5, high=0.1), HEADS)[name]
    size = a[name].abs().flatten().sort().values
    stay = crumbs[crumbs != 0].abs()
    assert stay.min() >= size[int(0.5 * len(size)) - 1]
    assert stay.max() <= size[-round(0.1 * len(size))]


def test_what_cannot_be_merged_is_refused() -> None:
    base = weights(0)
    with pytest.raises(UsageError, match=r"model 1 and the base differ in the tensor model\.embed"):
        merge(base, [{n: t for n, t in base.items() if "embed" not in n}], Merging(), HEADS)
    with pytest.raises(UsageError, match="top"):
        merge(base, [base], Merging(top=1.5), HEADS)
    with pytest.raises(UsageError, match="told apart"):
        merge({"x": torch.ones(2, 2)}, [{"x": torch.ones(2, 2)}], Merging(), HEADS)
