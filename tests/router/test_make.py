"""Making vectors: planted directions, a trained vector against random ones, strength under its budget."""

from typing import Any

import pytest
import torch
from tiny import VOCABULARY, WIDTH, model, planted, prompt

from pilothouse.router.features.sae import SAE
from pilothouse.router.steer.make import (
    choose_strength,
    difference_in_means,
    feature_vector,
    side_effect,
    train_vector,
)
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.store.errors import UsageError


def test_difference_in_means_finds_the_planted_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.nn.functional.normalize(torch.randn(65, generator=generator), dim=0)
    noise = torch.randn(2000, 65, generator=generator)
    found = difference_in_means(noise[:1000] + 2 * hidden, noise[1000:])
    assert float(torch.cosine_similarity(found, hidden, dim=0)) > 0.9
    assert float(found.norm()) == pytest.approx(2.0, abs=0.3)
    control = difference_in_means(noise[:1000], noise[1000:])
    assert abs(float(torch.cosine_similarity(control, hidden, dim=0))) < 0.4


@pytest.mark.parametrize(
    ("pos", "neg", "said"),
    [
        (torch.ones(2, 3), torch.ones(2, 3), "equal"),
        (torch.ones(2, 3), torch.ones(2, 4), "shape"),
        (torch.ones(0, 3), torch.ones(2, 3), "shape"),
        (torch.full((1, 3), float("nan")), torch.ones(2, 3), "not finite"),
    ],
)
def test_bad_contrasts_are_refused(pos: torch.Tensor, neg: torch.Tensor, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        difference_in_means(pos, neg)


def answer_batch(seed: int, target: int = 5, rows: int = 8) -> dict[str, torch.Tensor]:
    """Prompts of 6 tokens, then an answer of 3 times `target`."""
    ids = torch.cat([prompt(6, rows, seed), torch.full((rows, 3), target)], dim=1)
    labels = ids.clone()
    labels[:, :6] = -100
    return {"input_ids": ids, "labels": labels}


def loss_with(vector: torch.Tensor | None, batch: dict[str, torch.Tensor]) -> float:
    vectors = [] if vector is None else [SteeringVector("v", "add", 1, 1.0, "generation", vector)]
    return side_effect(model(), vectors, [batch]).loss_increase


def test_trained_vector_beats_random_ones_and_generalises() -> None:
    vector = train_vector(model(), 1, [answer_batch(i) for i in range(40)], rate=0.1, limit=3.0)
    unseen = answer_batch(999)
    gain = -loss_with(vector, unseen)
    assert gain > 0.5
    generator = torch.Generator().manual_seed(1)
    random = [torch.randn(WIDTH, generator=generator) for _ in range(10)]
    gains = [-loss_with(one / one.norm() * vector.norm(), unseen) for one in random]
    assert gain > max(gains) + 0.3
    assert float(vector.norm()) <= 3.0001


def test_a_price_for_neutral_text_lowers_the_harm_there() -> None:
    lessons, plain = [answer_batch(i) for i in range(40)], [answer_batch(500 + i, 9) for i in range(4)]
    free = train_vector(model(), 1, lessons, rate=0.1, limit=3.0)
    priced = train_vector(model(), 1, lessons, rate=0.1, limit=3.0, neutral=plain, price=100.0)

    def harm(vector: torch.Tensor) -> float:
        one = SteeringVector("v", "add", 1, 1.0, "generation", vector)
        return side_effect(model(), [one], [answer_batch(900, 9)]).kl

    assert harm(priced) < 0.6 * harm(free)
    assert -loss_with(priced, answer_batch(999)) > 0.25
    unpriced = train_vector(model(), 1, lessons, rate=0.1, limit=3.0, neutral=plain, price=0.0)
    torch.testing.assert_close(unpriced, free)


def test_training_touches_nothing_else() -> None:
    trunk = model()
    before = {name: p.clone() for name, p in trunk.named_parameters()}
    trunk.requires_grad_(True)
    try:
        train_vector(trunk, 1, [answer_batch(0)])
        assert all(p.grad is None for p in trunk.parameters())
    finally:
        trunk.requires_grad_(False)
    assert all(torch.equal(p, before[name]) for name, p in trunk.named_parameters())


def test_trained_scope_is_the_scope_it_acts_in() -> None:
    """With generation scope the states of prompt tokens must not get a gradient: a vector trained on a
    label that only prompt tokens could change stays useless in `prompt` scope."""
    batch = answer_batch(3)
    losses: list[float] = []
    train_vector(model(), 1, [batch] * 15, rate=0.1, report=lambda _, loss: losses.append(loss))
    assert losses[-1] < losses[0] - 0.2
    plain = side_effect(model(), [], [batch])
    assert (plain.kl, plain.loss_increase) == (0.0, 0.0)


def test_side_effect_is_kl_by_hand() -> None:
    batch, trunk = answer_batch(0, rows=2), model()
    one = SteeringVector(
        "v", "add", 2, 4.0, "both", torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    )
    found = side_effect(trunk, [one], [batch])
    from pilothouse.router.steer.runtime import Steering

    with torch.no_grad():
        plain = trunk(batch["input_ids"]).logits[:, 5:-1].log_softmax(-1)
        with Steering(trunk, [one]):
            steered = trunk(batch["input_ids"]).logits[:, 5:-1].log_softmax(-1)
    assert found.kl == pytest.approx(float((plain.exp() * (plain - steered)).sum(-1).mean()), abs=1e-5)
    rise = (plain - steered).gather(2, batch["labels"][:, 6:, None])
    assert found.loss_increase == pytest.approx(float(rise.mean()), abs=1e-5)
    assert found.kl > 0


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "no batch"),
        ([{"input_ids": prompt(5)}], "labels no token"),
        ([{"input_ids": prompt(5), "labels": torch.full((1, 5), -100)}], "labels no token"),
    ],
)
def test_bad_batches_are_refused(batches: list[Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train_vector(model(), 1, batches)


def test_runaway_training_is_stopped() -> None:
    with pytest.raises(UsageError, match="lower the rate"):
        train_vector(model(), 1, [answer_batch(0)], start=torch.full((WIDTH,), float("nan")))


def test_uneven_answers_are_refused_in_one_batch() -> None:
    batch = answer_batch(0, rows=2)
    batch["labels"][0, 6] = -100
    with pytest.raises(UsageError, match="bucket"):
        side_effect(model(), [], [batch])
    with pytest.raises(UsageError, match="no labelled token"):
        side_effect(model(), [], [])


# -- features and strength ---------------------------------------------------------------------------------


def test_feature_vector_carries_its_feature() -> None:
    atoms, _, _ = planted(10, WIDTH, 12, 2)
    sae = SAE(
        atoms.T,
        torch.randn(12),
        atoms,
        torch.zeros(WIDTH),
        torch.full((12,), 0.2),
        meta={"layer": 1, "fingerprint": "a" * 64},
    )
    clamp = feature_vector(sae, 7, 2.0, "seven")
    assert (clamp.kind, clamp.layer, clamp.feature, clamp.coefficient, clamp.fingerprint) == (
        "clamp_feature",
        1,
        7,
        2.0,
        "a" * 64,
    )
    assert clamp.encoder is not None
    assert torch.equal(clamp.encoder.weight, sae.W_enc[:, 7])
    push = feature_vector(sae, 7, 2.0, "seven", clamp=False)
    assert (push.kind, push.encoder) == ("add", None)
    with pytest.raises(UsageError, match="features 0 to 11"):
        feature_vector(sae, 12, 2.0, "none")


UNIT = SteeringVector("v", "add", 1, 1.0, "both", torch.ones(VOCABULARY))
EFFECTS = {0.5: 0.6, 1.0: 0.8, 2.0: 0.9, 4.0: 0.7}


def chosen(
    budget: float, baseline: float = 0.5, effects: dict[float, float] | None = None
) -> tuple[float, str]:
    table = effects or EFFECTS
    strength = choose_strength(
        UNIT,
        lambda v: table[v.coefficient],
        lambda v: v.coefficient / 10,
        budget=budget,
        coefficients=list(table),
        baseline=baseline,
    )
    assert len(strength.trials) == len(table)
    return strength.coefficient, strength.reason


def test_strength_is_the_best_within_budget() -> None:
    assert chosen(1.0)[0] == 2.0
    assert chosen(0.1)[0] == 1.0
    assert chosen(1.0, effects={1.0: 0.8, 2.0: 0.8})[0] == 1.0
    assert chosen(1.0, effects={1.0: 0.79, 2.0: 0.8})[0] == 2.0


def test_the_weakest_strength_that_comes_near_the_best_may_be_taken() -> None:
    effects = {1.0: 0.79, 2.0: 0.8}
    found = choose_strength(
        UNIT,
        lambda one: effects[one.coefficient],
        lambda one: one.coefficient / 20,
        budget=1.0,
        coefficients=[2.0, 1.0],
        baseline=0.1,
        near=0.02,
    )
    assert found.coefficient == 1.0


def test_no_strength_is_better_than_a_bad_one() -> None:
    assert chosen(0.01) == (0.0, "no strength stays within the budget 0.01: the least cost is 0.05")
    coefficient, reason = chosen(1.0, baseline=0.95)
    assert coefficient == 0.0
    assert "beats the unsteered effect 0.95" in reason
    with pytest.raises(UsageError, match="no coefficient"):
        choose_strength(UNIT, lambda _: 0.0, lambda _: 0.0, budget=1, coefficients=[], baseline=0)
