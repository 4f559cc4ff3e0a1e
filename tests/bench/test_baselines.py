"""Baselines on planted truth, and on shuffled labels, where they must fail."""

import random

import numpy as np
import torch

from pilothouse.bench import baselines
from pilothouse.bench.starter.routing import probe_choice

WORDS = {
    "sum": ["add", "plus", "total"],
    "name": ["who", "called", "person"],
    "place": ["where", "city", "map"],
}


def texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    labels = [rng.choice(sorted(WORDS)) for _ in range(count)]
    return [" ".join([*rng.sample(WORDS[label], 2), rng.choice("abcdef") * 2]) for label in labels], labels


def agreement(found: list[str], wanted: list[str]) -> float:
    return sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)


def test_majority_and_its_tie() -> None:
    assert baselines.majority(["b", "a", "b"]) == "b"
    assert baselines.majority(["b", "a"]) == "a"


def test_tfidf_learns_words_and_not_noise() -> None:
    train, labels = texts(200, 0)
    test, wanted = texts(100, 1)
    assert agreement(baselines.Tfidf.fit(train, labels, [], []).predict(test), wanted) > 0.95
    noise = baselines.Tfidf.fit(train, baselines.shuffled(labels, 0), [], [])
    assert agreement(noise.predict(test), wanted) < 0.6


def test_strength_is_chosen_on_the_held_rows() -> None:
    train, labels = texts(120, 0)
    held, wanted = texts(60, 2)
    strengths = (1e-6, 10.0)
    assert baselines.Tfidf.fit(train, labels, held, wanted, strengths).strength == 10.0


def test_length_tells_short_from_long() -> None:
    lengths = [3, 4, 5, 4, 30, 31, 29, 33]
    labels = ["short"] * 4 + ["long"] * 4
    assert baselines.by_length(lengths, labels, [4, 32], bins=2) == ["short", "long"]
    assert baselines.by_length([5, 5, 5], ["a", "b", "a"], [1, 9]) == ["a", "a"]


def clusters(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    centres = np.eye(3, 8) * 6
    return (centres[labels] + generator.normal(size=(count, 8))).astype(np.float32), [str(i) for i in labels]


def test_nearest_states_and_probe_find_planted_clusters_and_shuffled_labels_do_not() -> None:
    known, labels = clusters(240, 0)
    asked, wanted = clusters(120, 1)
    assert agreement(baselines.nearest(known, labels, asked), wanted) > 0.97
    probe = [str(c) for c in probe_choice(torch.tensor(known), labels, torch.tensor(asked))]
    assert agreement(probe, wanted) > 0.97
    dealt = baselines.shuffled(labels, 3)
    control = [str(c) for c in probe_choice(torch.tensor(known), dealt, torch.tensor(asked))]
    assert agreement(control, wanted) < 0.6
    assert agreement(baselines.nearest(known, dealt, asked), wanted) < 0.6


def test_shuffling_keeps_the_labels_and_uniform_uses_all_names() -> None:
    labels = list("aabbbc")
    assert sorted(baselines.shuffled(labels, 0)) == sorted(labels)
    assert set(baselines.uniform(["x", "y", "z"], 60, 0)) == {"x", "y", "z"}
    assert baselines.uniform(["x", "y"], 9, 1) == baselines.uniform(["x", "y"], 9, 1)
