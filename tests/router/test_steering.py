"""Steering inside real forward passes: scope, gates, plans, idle bits, every architecture, files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CONFIGS, LAYERS, WIDTH, model, prompt

from pilothouse.router.steer.runtime import Steering, planned
from pilothouse.router.steer.vector import Encoder, Gate, SteeringVector
from pilothouse.router.taps import Taps, decoder_layers
from pilothouse.store.errors import ArtifactError, UsageError
from pilothouse.store.records import SteeringPlan


def direction(seed: int = 0) -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


def add(**fields: Any) -> SteeringVector:
    base = SteeringVector("push", "add", 1, 3.0, "both", direction(), fingerprint="f" * 64)
    return replace(base, **fields)


def logits(trunk: Any, ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = trunk(ids, **kwargs).logits
    return out


def after(
    trunk: Any, layer: int, ids: torch.Tensor, vectors: list[SteeringVector], **state: Any
) -> torch.Tensor:
    """The residual stream after `layer`, steered."""
    with torch.no_grad(), Steering(trunk, vectors) as steering:
        for name, value in state.items():
            setattr(steering, name, value)
        with Taps(trunk, [layer]) as taps:
            trunk(ids)
    return taps.states[layer]


@pytest.mark.parametrize("kind", CONFIGS)
def test_add_lands_after_its_layer(kind: str) -> None:
    trunk, ids, one = model(kind), prompt(), add()
    plain, steered = after(trunk, 1, ids, []), after(trunk, 1, ids, [one])
    torch.testing.assert_close(steered, plain + 3.0 * one.vector)
    assert torch.equal(after(trunk, 0, ids, [one]), after(trunk, 0, ids, []))
    assert not torch.allclose(logits(trunk, ids), _steered_logits(trunk, ids, [one]))


def _steered_logits(trunk: Any, ids: torch.Tensor, vectors: list[SteeringVector]) -> torch.Tensor:
    with Steering(trunk, vectors):
        return logits(trunk, ids)


@pytest.mark.parametrize("kind", CONFIGS)
def test_out_of_scope_is_bit_equal(kind: str) -> None:
    trunk, ids = model(kind), prompt()
    plain = logits(trunk, ids)
    assert torch.equal(_steered_logits(trunk, ids, [add(scope="generation")]), plain)  # the phase is prompt
    closed = Gate(0, direction(3), threshold=1e9)
    assert torch.equal(_steered_logits(trunk, ids, [add(gate=closed)]), plain)
    assert torch.equal(_steered_logits(trunk, ids, []), plain)
    _steered_logits(trunk, ids, [add()])
    assert torch.equal(logits(trunk, ids), plain)  # nothing is left behind


@pytest.mark.parametrize(
    ("scope", "prompt_moves", "answer_moves"), [("prompt", 1, 0), ("generation", 0, 1), ("both", 1, 1)]
)
def test_scope_by_phase_and_by_boundary(scope: str, prompt_moves: int, answer_moves: int) -> None:
    trunk, ids, one = model(), prompt(10), add(scope=scope)
    plain = after(trunk, 1, ids, [])
    moved = {
        "prompt": after(trunk, 1, ids, [one], phase="prompt"),
        "generation": after(trunk, 1, ids, [one], phase="generation"),
    }
    assert torch.equal(moved["prompt"], plain) == (not prompt_moves)
    assert torch.equal(moved["generation"], plain) == (not answer_moves)
    split = after(trunk, 1, ids, [one], boundary=6)
    assert torch.equal(split[:, :6], plain[:, :6]) == (not prompt_moves)
    torch.testing.assert_close(split[:, 6:], plain[:, 6:] + answer_moves * 3.0 * one.vector)


def test_decoding_with_a_cache_equals_one_pass() -> None:
    """Prompt unsteered, then token by token steered, against one pass split at the boundary."""
    trunk, ids, one = model(), prompt(12), add(scope="generation", gate=Gate(0, direction(4)))
    with torch.no_grad(), Steering(trunk, [one]) as steering:
        out = trunk(ids[:, :7], use_cache=True)
        steps = [out.logits]
        steering.phase = "generation"
        for i in range(7, 12):
            out = trunk(ids[:, i : i + 1], past_key_values=out.past_key_values, use_cache=True)
            steps.append(out.logits)
        steering.boundary = 7
        whole = trunk(ids).logits
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-4)


def test_gate_decides_token_by_token() -> None:
    trunk, ids = model(), prompt(20, rows=2)
    gate = Gate(0, direction(1), bias=0.1, threshold=0.2)
    plain = after(trunk, 1, ids, [])
    with torch.no_grad(), Taps(trunk, [0]) as taps:
        trunk(ids)
    opened = taps.states[0] @ gate.weight + gate.bias >= gate.threshold
    assert 0 < int(opened.sum()) < opened.numel()
    steered = after(trunk, 1, ids, [add(gate=gate)])
    torch.testing.assert_close(steered, plain + opened[..., None] * 3.0 * direction())
    assert torch.equal(steered[~opened], plain[~opened])


def test_gate_at_its_own_layer_reads_before_steering() -> None:
    trunk, ids = model(), prompt(8)
    plain = after(trunk, 1, ids, [])
    unit = direction() / direction().norm()
    gate = Gate(1, unit, threshold=float((plain @ unit).max()) + 0.5)  # opens only if it saw its own push
    assert torch.equal(after(trunk, 1, ids, [add(gate=gate)]), plain)


def test_project_out_and_scale() -> None:
    trunk, ids = model(), prompt()
    unit = direction() / direction().norm()
    plain = after(trunk, 1, ids, [])
    gone = after(trunk, 1, ids, [add(kind="project_out", coefficient=1.0)])
    assert float((gone @ unit).abs().max()) < 1e-5
    double = after(trunk, 1, ids, [add(kind="scale", coefficient=2.0)])
    torch.testing.assert_close(double @ unit, 2 * (plain @ unit), atol=1e-5, rtol=1e-4)


def test_clamp_feature_sets_the_feature() -> None:
    trunk, ids = model(), prompt()
    unit = direction() / direction().norm()
    plain = after(trunk, 1, ids, []) @ unit
    bias = 0.05 - float(plain.median())  # about half of the tokens activate the feature
    one = add(
        kind="clamp_feature", vector=unit, coefficient=2.5, feature=3, encoder=Encoder(unit, bias, 0.05)
    )
    steered = after(trunk, 1, ids, [one]) @ unit
    active = plain + bias > 0.05
    assert 0 < int(active.sum()) < active.numel()
    torch.testing.assert_close(
        steered[active] + bias, torch.full_like(steered[active], 2.5), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(steered[~active], plain[~active] + 2.5, atol=1e-5, rtol=0)


def test_each_row_has_its_own_plan() -> None:
    trunk, ids = model(), prompt(9, rows=3)
    first, second = add(), add(name="other", vector=direction(8), layer=2)
    with torch.no_grad(), Steering(trunk, [first, second]) as steering:
        steering.plans = [[0], [], [0, 1]]
        together = trunk(ids).logits
    for row, vectors in enumerate(([first], [], [first, second])):
        torch.testing.assert_close(
            together[row], _steered_logits(trunk, ids[row : row + 1], vectors)[0], atol=1e-5, rtol=1e-4
        )
    assert torch.equal(together[1], logits(trunk, ids)[1])


def test_two_vectors_at_one_layer_add_up() -> None:
    trunk, ids = model(), prompt()
    first, second = add(), add(name="other", vector=direction(8))
    torch.testing.assert_close(
        after(trunk, 1, ids, [first, second]), after(trunk, 1, ids, []) + 3 * direction() + 3 * direction(8)
    )


def test_hooks_go_even_after_a_failure() -> None:
    trunk = model()
    with pytest.raises(IndexError), Steering(trunk, [add(gate=Gate(0, direction()))]):
        trunk(torch.tensor([[10**6]]))
    assert not any(layer._forward_hooks for layer in decoder_layers(trunk))


def test_bfloat16_streams_keep_their_type() -> None:
    trunk = model().to(torch.bfloat16)
    try:
        assert after(trunk, 1, prompt(), [add()]).dtype == torch.bfloat16
        plain = logits(trunk, prompt())
        assert torch.equal(_steered_logits(trunk, prompt(), [add(scope="generation")]), plain)
    finally:
        trunk.to(torch.float32)
        model.cache_clear()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"layer": LAYERS}, f"layer {LAYERS} does not exist"),
        ({"vector": torch.ones(WIDTH + 1)}, "wide"),
    ],
)
def test_vectors_of_another_model_are_refused(fields: dict[str, Any], said: str) -> None:
    trunk = model()
    with pytest.raises(UsageError, match=said), Steering(trunk, [add(**fields)]):
        logits(trunk, prompt())
    assert not any(layer._forward_hooks for layer in decoder_layers(trunk))
    with pytest.raises(ArtifactError, match="'push' was made for the model ffff"):
        Steering(trunk, [add()], fingerprint="0" * 64)


def test_wrong_number_of_plans_is_refused() -> None:
    with Steering(model(), [add()]) as steering:
        steering.plans = [[0], []]
        with pytest.raises(UsageError, match="2 steering plans for a batch of 1"):
            logits(model(), prompt())


# -- the vector itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "shove"}, "'shove'"),
        ({"scope": "answer"}, "'answer'"),
        ({"coefficient": float("nan")}, "not finite"),
        ({"vector": torch.zeros(WIDTH)}, "must not be zero"),
        ({"vector": torch.full((WIDTH,), float("inf"))}, "not finite"),
        ({"vector": torch.ones(2, 2)}, "shape"),
        ({"layer": -1}, "layer -1"),
        ({"kind": "clamp_feature"}, "clamps a feature"),
        ({"gate": Gate(2, torch.ones(WIDTH))}, "gated at layer 2"),
        ({"gate": Gate(0, torch.ones(WIDTH - 1))}, "use one model"),
    ],
)
def test_bad_vectors_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        add(**fields)


FULL = {
    "kind": "clamp_feature",
    "feature": 4,
    "gate": Gate(0, direction(1), 0.5, -0.25, "harm"),
    "encoder": Encoder(direction(2), 0.1, 0.2),
    "meta": {"effect": 0.4},
}


@pytest.mark.parametrize("fields", [{}, FULL])
def test_files_round_trip(tmp_path: Path, fields: dict[str, Any]) -> None:
    one = add(**fields)
    one.save(tmp_path)
    again = SteeringVector.load(tmp_path)
    assert again.sha256 == one.sha256
    assert again.head() == one.head()
    trunk = model()
    assert torch.equal(_steered_logits(trunk, prompt(), [again]), _steered_logits(trunk, prompt(), [one]))


def test_digest_follows_every_part() -> None:
    one = add(**FULL)
    others = [
        replace(one, coefficient=1.0),
        replace(one, vector=direction(9)),
        replace(one, gate=None),
        replace(one, gate=Gate(0, direction(7), 0.5, -0.25, "harm")),
        replace(one, encoder=Encoder(direction(2), 0.1, 0.3)),
        replace(one, scope="prompt"),
    ]
    assert len({one.sha256, *(other.sha256 for other in others)}) == 7


@pytest.mark.parametrize(
    "change",
    [{"format": 9}, {"kind": "shove"}, {"gate": {"layer": 0, "bias": 0, "name": "g"}}, {"layer": None}],
)
def test_damaged_files_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    add().save(tmp_path)
    head = json.loads((tmp_path / "vector.json").read_text())
    (tmp_path / "vector.json").write_text(json.dumps(head | change))
    with pytest.raises(ArtifactError, match=str(tmp_path)):
        SteeringVector.load(tmp_path)


def test_plan_becomes_vectors() -> None:
    one = add(gate=Gate(0, direction(1), name="harm"))
    entry = one.entry("harm", 1.25)
    assert (entry.gate, entry.sha256, entry.coefficient, entry.reading) == ("harm", one.sha256, 1.25, "harm")
    (found,) = planned(SteeringPlan(entries=(entry,)), {"push": one})
    assert found.coefficient == 1.25
    assert found.gate is one.gate
    with pytest.raises(UsageError, match=r"\['push'\]"):
        planned(SteeringPlan(entries=(entry,)), {})
    assert planned(SteeringPlan(entries=(one.entry("r"),)), {"push": one}) == (one,), "the very object"
