"""Control reinforcement learning: PPO's arithmetic, a bandit, masks, branch points, gated entries."""

import math
from typing import Any

import pytest
import torch
from wired import FEATURES, HINT, RIGHT, WIDTH, dictionary, prompts, task, wired

from pilothouse.router.steer.branches import (
    branch_points,
    critic_trajectories,
    diversity,
    gated_entries,
    outcome,
    sweep,
)
from pilothouse.router.steer.crl import Control, states_of, train
from pilothouse.router.steer.ppo import ActorCritic, Batch, Recipe, clipped, learner, update
from pilothouse.router.steer.task import Answer, play, right
from pilothouse.store.errors import UsageError


def acted(net: ActorCritic, states: torch.Tensor, best: torch.Tensor, generator: torch.Generator) -> Batch:
    """Draw an action a state; reward 1 for the best one."""
    with torch.no_grad():
        log_probabilities = net.log_probabilities(states)
    actions = torch.multinomial(log_probabilities.exp(), 1, generator=generator)[:, 0]
    taken = log_probabilities.gather(1, actions[:, None])[:, 0]
    return Batch(states, actions, taken, (actions == best).float())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bandit_with_a_known_best_action_per_context(seed: int) -> None:
    """8 contexts, 12 actions: at least 95 % of the oracle's reward, first-epoch ratio exactly 1."""
    generator = torch.Generator().manual_seed(seed)
    contexts = torch.randn(8, 6, generator=generator)
    best = torch.randint(12, (8,), generator=generator)
    recipe = Recipe(updates=150, rate=1e-2, hidden=32)
    net = ActorCritic(contexts, 12, recipe.hidden, seed)
    optimizer = learner(net, recipe)
    for step in range(recipe.updates):
        rows = torch.randint(8, (96,), generator=generator)
        batch = acted(net, contexts[rows], best[rows], generator)
        seen = update(net, optimizer, batch, recipe, 0.02 * (1 - step / recipe.updates))
        assert seen.first_ratio == 0.0
    reached = (net.log_probabilities(contexts).argmax(1) == best).float().mean()
    assert float(reached) >= 0.95


def test_actions_drawn_from_another_distribution_are_refused() -> None:
    net = ActorCritic(torch.randn(20, 4), 5, 8, 0)
    states = torch.randn(10, 4)
    wrong = torch.distributions.Normal(0.0, 0.1).log_prob(torch.zeros(10))
    batch = Batch(states, torch.zeros(10, dtype=torch.long), wrong, torch.ones(10))
    with pytest.raises(UsageError, match="differ from the policy's by up to"):
        update(net, learner(net, Recipe()), batch, Recipe(), 0.0)


def test_the_clipped_surrogate() -> None:
    ratio, advantage = torch.tensor([0.5, 0.5, 1.5, 1.5, 1.0]), torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    # min(r A, clip(r) A): 0.5, -0.8, 1.2, -1.5, 2.0
    assert float(clipped(ratio, advantage, 0.2)) == pytest.approx(-(0.5 - 0.8 + 1.2 - 1.5 + 2.0) / 5)


def control(model: Any, **fields: Any) -> Control:
    sae = dictionary()
    asked = task(prompts(12, 0.5))
    net = ActorCritic(states_of(model, asked, 0), FEATURES, 8, 0)
    return Control(model, net, sae, torch.full((FEATURES,), 2.0), **fields)


def test_a_forced_feature_is_pushed_at_its_token_only() -> None:
    model, asked = wired(), task(prompts(6, 0.0), longest=3)
    plain = play(model, asked)
    # RIGHT carries the end's direction: feature 0 at the first token turns WRONG into RIGHT
    nothing = torch.full((6,), 9)
    hinted = play(model, asked, hand=control(model, forced={0: torch.zeros(6, dtype=torch.long), 1: nothing}))
    assert right(plain) == 0.0
    assert right(hinted) == 1.0
    some = torch.tensor([0, -1, 9, 9, 9, 9])
    again = play(model, asked, hand=control(model, forced={0: some, 1: nothing}))
    assert again[0].right
    assert not any(one.right for one in again[2:])


def test_masks_allow_only_what_was_active() -> None:
    model, asked = wired(), task(prompts(16, 0.5))
    for masking in ("active", "weighted"):
        hand = control(model, masking=masking, generator=torch.Generator().manual_seed(0))
        play(model, asked, hand=hand)
        sae = dictionary()
        for rows, moves in hand.moves:
            assert len(rows) == 8
            seen = torch.zeros(8, FEATURES)
            for t, move in enumerate(moves):
                seen = (seen * t + sae.encode(move.states)) / (t + 1)
                allowed = seen > 0
                open_rows = allowed.any(1)
                assert move.bias is not None
                assert bool(allowed[open_rows].gather(1, move.actions[open_rows, None]).all())
                bias = seen.log() if masking == "weighted" else torch.zeros_like(seen)
                torch.testing.assert_close(
                    move.bias[open_rows][allowed[open_rows]], bias[open_rows][allowed[open_rows]]
                )
    everything = control(model, masking="active", heard="all")
    play(model, task([(HINT, 5)]), hand=everything)
    # axis 0 was active at the prompt's first token, so it may be picked at the last
    bias = everything.moves[0][1][0].bias
    assert bias is not None
    assert float(bias[0, 0]) == 0.0


def test_training_finds_the_planted_feature_and_shuffled_rewards_do_not() -> None:
    model, sae, lacking = wired(), dictionary(), task(prompts(64, 0.0))
    strength = torch.full((FEATURES,), 2.0)
    recipe = Recipe(updates=40, rows=48, hidden=16, rate=1e-2)
    ratios = []
    net = train(
        model, lacking, sae, strength, recipe, 0, report=lambda told: ratios.append(told.step.first_ratio)
    )
    assert set(ratios) == {0.0}
    hand = Control(model, net, sae, strength)
    assert right(play(model, lacking, hand=hand)) >= 0.95
    null = train(model, lacking, sae, strength, recipe, 0, shuffle=True)
    assert right(play(model, lacking, hand=Control(model, null, sae, strength))) <= 0.5
    gated = gated_entries(hand, lacking, "policy")
    assert right(play(model, lacking, gated)) >= 0.9
    branches = branch_points(hand, lacking)
    assert branches
    assert {one.token for one in branches} == {0}
    verdicts = sweep(model, lacking, sae, strength, range(FEATURES))
    assert verdicts.shape == (FEATURES, 64)
    assert verdicts.float().mean(1).argmax() == 0
    paths = critic_trajectories(hand, lacking, play(model, lacking))
    assert paths["corrected"][0][1] >= 60
    assert all(math.isfinite(value) for steps in paths.values() for value, _ in steps)


def test_outcomes_and_diversity() -> None:
    def answer(is_right: bool) -> Answer:
        return Answer((RIGHT,), 2, is_right, True)

    assert [outcome(answer(a), answer(b)) for a in (True, False) for b in (True, False)] == [
        "correct",
        "misguided",
        "corrected",
        "incorrect",
    ]
    assert diversity(torch.tensor([[1, 1], [2, -1], [2, -1]])) == (2, pytest.approx(math.log(2)))


def test_bad_strengths_are_refused() -> None:
    model = wired()
    with pytest.raises(UsageError, match="strengths have shape"):
        Control(model, control(model).net, dictionary(), torch.zeros(FEATURES))
    assert dictionary().d_in == WIDTH
