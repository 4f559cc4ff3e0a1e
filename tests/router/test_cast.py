"""Conditional steering: conditions found on planted states, decided row by row, closed on controls."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import WIDTH, model, prompt

from pilothouse.router.steer.cast import (
    Condition,
    Conditional,
    Rule,
    best_split,
    condition_direction,
    fit_condition,
    likeness,
)
from pilothouse.router.steer.runtime import Steering
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.router.taps import Taps
from pilothouse.store.errors import ArtifactError, UsageError

FINGERPRINT = "f" * 64


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States that hold a known direction, and states that do not."""
    axis = torch.nn.functional.normalize(randn(WIDTH, seed=99), dim=0)
    return axis, randn(count, WIDTH, seed=seed) + 12 * axis, randn(count, WIDTH, seed=seed + 1)


def states(ids: torch.Tensor, layer: int = 0) -> torch.Tensor:
    with torch.no_grad(), Taps(model(), [layer]) as taps:
        model()(ids)
    return taps.states[layer]


def push(**fields: Any) -> SteeringVector:
    base = SteeringVector("push", "add", 1, 3.0, "both", randn(WIDTH), fingerprint=FINGERPRINT)
    return replace(base, **fields)


def parted(ids: torch.Tensor, layer: int = 0) -> tuple[Condition, list[bool]]:
    """A condition that some of these prompts meet and some do not."""
    direction = randn(WIDTH, seed=5)
    made = Condition("odd", layer, direction, 0.0, fingerprint=FINGERPRINT)
    low, high = sorted(made.score(row) for row in states(ids, layer))[len(ids) // 2 - 1 :][:2]
    made = replace(made, threshold=(low + high) / 2)  # between two rows, so that no rounding decides
    return made, [made.holds(row) for row in states(ids, layer)]


def test_likeness_is_the_cosine_with_the_squashed_projection() -> None:
    c, rows = randn(WIDTH, seed=1), randn(7, WIDTH, seed=2)
    outer = torch.outer(c, c) / (c @ c)
    wanted = [torch.nn.functional.cosine_similarity(h, torch.tanh(outer @ h), dim=0) for h in rows]
    torch.testing.assert_close(likeness(rows, c), torch.stack(wanted))
    assert float(likeness(torch.zeros(1, WIDTH), c)) == 0


def test_a_planted_condition_is_found_and_shuffled_labels_find_none() -> None:
    axis, pos, neg = planted(60, 0)
    assert float(condition_direction(pos, neg) @ axis) > 0.95
    nothing = randn(60, WIDTH, seed=7), randn(60, WIDTH, seed=8)
    _, *fresh = planted(60, 20)
    noise = randn(60, WIDTH, seed=9), randn(60, WIDTH, seed=10)
    found = fit_condition("c", {0: nothing, 1: (pos, neg)}, {0: noise, 1: (fresh[0], fresh[1])})
    assert found.layer == 1
    assert found.meta["f1_valid"] > 0.95
    mixed = torch.cat([pos, neg])[torch.randperm(120, generator=torch.Generator().manual_seed(3))]
    test = torch.cat([fresh[0], fresh[1]])[torch.randperm(120, generator=torch.Generator().manual_seed(4))]
    control = fit_condition("c", {1: (mixed[:60], mixed[60:])}, {1: (test[:60], test[60:])})
    assert control.meta["f1_valid"] < 0.75


def test_the_best_split_tries_both_sides() -> None:
    scores = torch.tensor([0.1, 0.2, 0.8, 0.9])
    assert best_split(scores, [0, 0, 1, 1]) == (1.0, pytest.approx(0.5), True)
    assert best_split(scores, [1, 1, 0, 0]) == (1.0, pytest.approx(0.5), False)
    with pytest.raises(UsageError, match="both classes"):
        best_split(scores, [1, 1, 1, 1])


@pytest.mark.parametrize("layer", [0, 1])
def test_each_row_decides_for_itself_and_the_others_keep_their_bits(layer: int) -> None:
    trunk, ids = model(), prompt(9, rows=5)
    condition, wanted = parted(ids, layer)
    assert 0 < sum(wanted) < 5
    with torch.no_grad():
        plain = trunk(ids).logits
        with Steering(trunk, [push()]):
            steered = trunk(ids).logits
        with Conditional(trunk, [Rule((condition,), (push(),))], fingerprint=FINGERPRINT) as steering:
            found = trunk(ids).logits
            assert steering.decided == [[held] for held in wanted]
        assert torch.equal(trunk(ids).logits, plain)
    for row, held in enumerate(wanted):
        assert torch.equal(found[row], (steered if held else plain)[row])


def test_the_verdict_of_the_prompt_stays_for_the_generation() -> None:
    trunk, ids = model(), prompt(12, rows=4)
    condition, wanted = parted(ids[:, :8])
    rule = Rule((condition,), (push(scope="generation"),))
    with torch.no_grad(), Conditional(trunk, [rule]) as steering:
        out = trunk(ids[:, :8], use_cache=True)
        steering.phase = "generation"
        later = trunk(ids[:, 8:], past_key_values=out.past_key_values, use_cache=True).logits
        steering.boundary = 8
        whole = trunk(ids).logits
        assert steering.decided == [[held] for held in wanted]
        steering.boundary, steering.phase = None, "prompt"
        trunk(ids[:1])  # another prompt decides anew
        assert len(steering.decided) == 1
    torch.testing.assert_close(torch.cat([out.logits, later], 1), whole, atol=1e-5, rtol=1e-4)
    with Conditional(trunk, [rule]) as steering:
        steering.phase = "generation"
        with pytest.raises(UsageError, match="pass the prompts first"):
            trunk(ids)


def test_all_and_any_and_plain_plans() -> None:
    ids = prompt(9, rows=6)
    one, first = parted(ids)
    two = replace(one, name="other", direction=randn(WIDTH, seed=6), above=False)
    second = [two.holds(row) for row in states(ids)]
    assert len({*zip(first, second, strict=True)}) > 2
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        seen = {0: states(ids)[row]}
        assert Rule((one, two), (push(),)).holds(seen) == (a and b)
        assert Rule((one, two), (push(),), "any").holds(seen) == (a or b)
        assert len(Rule((one,), (push(), push(name="more"))).resolve(seen)) == 2 * a
    entry = Rule((one, two), (push(),)).entries()[0]
    assert (entry.reading, entry.name, entry.sha256) == ("odd & other", "push", push().sha256)
    with pytest.raises(UsageError, match="tap them"):
        Rule((one,), (push(),)).holds({2: randn(4, WIDTH)})


def test_files_and_refusals(tmp_path: Path) -> None:
    condition, _ = parted(prompt(9, rows=3))
    condition.save(tmp_path)
    again = Condition.load(tmp_path)
    assert torch.equal(again.direction, condition.direction)
    assert replace(again, direction=condition.direction) != condition  # identity, not values
    assert (again.threshold, again.layer, again.fingerprint) == (condition.threshold, 0, FINGERPRINT)
    (tmp_path / "condition.json").write_text('{"format": 9}')
    with pytest.raises(ArtifactError, match="another format"):
        Condition.load(tmp_path)
    for wrong in ({"direction": torch.zeros(WIDTH)}, {"pooling": "max"}, {"threshold": float("nan")}):
        with pytest.raises(UsageError):
            replace(condition, **wrong)
    with pytest.raises(UsageError, match="matrix"):
        condition.score(randn(4, WIDTH + 1))
    with pytest.raises(UsageError, match="not finite"):
        condition.score(torch.full((4, WIDTH), float("nan")))
    with pytest.raises(UsageError, match="before 'odd' is read"):
        Conditional(model(), [Rule((replace(condition, layer=2),), (push(),))])
    with pytest.raises(UsageError, match="does not exist"):
        Conditional(model(), [Rule((replace(condition, layer=9),), (push(layer=9),))])
    with pytest.raises(ArtifactError):
        Conditional(
            model(), [Rule((replace(condition, fingerprint="e" * 64),), (push(),))], fingerprint=FINGERPRINT
        )
