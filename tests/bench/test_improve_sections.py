"""What the sections nsds, fusion, shifcon and edit-prune compute beside the methods themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pilothouse.bench.improve import edit_prune, nsds, shifcon
from pilothouse.bench.improve.fusion import hypervolume
from pilothouse.bench.improve.little import decoder, loss_on, text, windows
from pilothouse.specialists.improve.align import Band


def test_the_area_below_a_front_counts_nothing_twice() -> None:
    assert hypervolume([(1.0, 1.0)]) == pytest.approx(1)
    assert hypervolume([(0.5, 0.5), (0.4, 0.4)]) == pytest.approx(0.25)
    assert hypervolume([(1.0, 0.2), (0.5, 0.6), (0.1, 1.0)]) == pytest.approx(0.2 + 0.5 * 0.4 + 0.1 * 0.4)
    assert hypervolume([]) == 0


def test_pooled_ranks_correlate_as_they_are_made() -> None:
    x = torch.randn(12, generator=torch.Generator().manual_seed(0))
    same = list(zip(nsds._ranks(x), nsds._ranks(3 * x + 1), strict=True))
    against = list(zip(nsds._ranks(x), nsds._ranks(-x), strict=True))
    assert nsds.correlation(same, 0).value == pytest.approx(1)
    assert nsds.correlation(against, 0).value == pytest.approx(-1)
    assert abs(nsds.correlation([*same, *against], 0).value) < 1e-9


def test_every_allocation_and_thirty_draws_are_measured() -> None:
    rows = windows(text("test", 40, 0), 32)
    subject = nsds.Subject("toy", decoder(256, 16, 4, 0).eval().requires_grad_(False), rows[:4], rows[4:8])
    cases, pairs = nsds.measured(subject, 0, 5)
    assert len(cases) == 4
    assert all(len(case.random) == 5 and nsds.GREEDY in case.losses for case in cases)
    assert set(cases[0].losses) == {*pairs, nsds.GREEDY}
    assert loss_on(subject.model, subject.test) == pytest.approx(
        loss_on(decoder(256, 16, 4, 0).eval(), rows[:4])
    ), "the model has its own weights again"


def test_the_biased_corpus_is_as_biased_as_it_says() -> None:
    rows = edit_prune.sentences(6000, 1)
    word, pronoun = rows[:, 1], rows[:, 4]
    for first, share in ((edit_prune.FIRST_JOB, edit_prune.SKEW), (edit_prune.FIRST_NOUN, 1.0)):
        some = (word >= first) & (word < first + 40)
        usual = torch.where((word - first) % 2 == 0, edit_prune.HE, edit_prune.SHE)
        assert float((pronoun == usual)[some].float().mean()) == pytest.approx(share, abs=0.03)


def test_the_weak_languages_are_asked_what_they_were_not_told(tmp_path: Path) -> None:
    world = shifcon.world(tmp_path, 0, 2000)
    told = {(row["language"], row["prompt"]) for row in world.rows.rows}
    for name in shifcon.LOW:
        assert world.asked[name]
        assert not any((name, prompt) in told for prompt, _ in world.asked[name])
        assert all(answer.startswith(name) for _, answer in world.asked[name])
    assert len(world.asked[shifcon.DOMINANT]) == shifcon.ENTITIES * shifcon.RELATIONS
    assert {row["language"] for row in world.pairs.rows} == set(shifcon.LOW)
    assert shifcon.other_band(Band(2, 5)) == Band(4, 7)
    assert shifcon.other_band(Band(4, 7)) == Band(0, 3)
