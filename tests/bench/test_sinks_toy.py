"""The toy in which heads must rest: its language, its controls, and how what a clamp takes is counted."""

from __future__ import annotations

import torch

from pilothouse.bench.locate.backcopy import LENGTH, START, VOCABULARY, Bigrams, called, copies, untrained
from pilothouse.bench.locate.resting import removed, section
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.sinks import sink_scores


def test_a_trigger_repeats_the_token_before_and_nothing_else_starts() -> None:
    rows = Bigrams(3).rows(200)
    assert rows.shape == (200, LENGTH)
    assert bool((rows[:, 0] == START).all())
    assert not bool((rows[:, 1:] == START).any())
    asked = called(rows[:, 2:-1])
    assert 0.03 < float(asked.float().mean()) < 0.3
    assert torch.equal(rows[:, 3:][asked], rows[:, 1:-2][asked])
    by_chance = float((rows[:, 3:] == rows[:, 1:-2])[~asked].float().mean())
    assert by_chance < 0.3  # what is copied is not what bigrams would say anyway


def test_one_seed_is_one_language() -> None:
    assert torch.equal(Bigrams(1).rows(4), Bigrams(1).rows(4))
    assert not torch.equal(Bigrams(1).follows, Bigrams(2).follows)


def test_before_training_there_is_neither_sink_nor_copy() -> None:
    language = Bigrams(0)
    model = untrained(0)
    assert float(sink_scores(Anatomy.of(model), language.cases(4)).max()) < 0.1
    assert copies(model, language) < 10 / VOCABULARY


def test_what_a_clamp_takes_is_counted_behind_it_and_over_the_fair_share() -> None:
    before = torch.tensor([[0.9, 0.9], [0.6, 0.1], [0.1, 0.1]])
    after = torch.tensor([[0.9, 0.9], [0.35, 0.1], [0.0, 0.1]])
    assert abs(removed(before, after, 0.1) - 0.5) < 1e-6
    assert removed(torch.full((3, 2), 0.1), after, 0.2) == 0.0


def test_the_section_counts_every_clamp_and_its_control() -> None:
    found = section([0], 0, True)
    names = [row[0] for row in found.rows]
    assert all(f"excess removed by the clamp: {how}" in names for how in ("norm", "direction", "random"))
    assert [goal.met for goal in found.goals if "before training" in goal.what] == [True]
