"""Cascades: a signal that tells pays for itself, one that tells nothing changes nothing, and both survive a
disk.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted import Planted, planted
from torch import Tensor

from pilothouse.router.routing.artifact import RoutingPolicy, make
from pilothouse.router.routing.cascade import cross_played, enough, fit_cascade, play
from pilothouse.router.routing.fitting import Options, fit
from pilothouse.router.routing.reading import read_table
from pilothouse.router.routing.table import Table, joined
from pilothouse.store.errors import UsageError

PRICES = torch.tensor([1.0, 4.0])


def two(rows: int, seed: int, telling: float) -> tuple[Table, Tensor]:
    """The second model is right on nine of ten prompts, the first on half; a signal that comes with an answer
    is `telling` when that is right, and noise. Prompts say nothing: P(correct) is the mean.
    """
    make_rows = torch.Generator().manual_seed(seed)
    quality = (torch.rand(rows, 2, generator=make_rows) < torch.tensor([0.5, 0.9])).float()
    signal = telling * quality + torch.randn(rows, 2, generator=make_rows)
    table = replace(planted(rows=rows, models=2, seed=seed).table, quality=quality, signals={"sure": signal})
    return table, torch.tensor([0.5, 0.9]).expand(rows, 2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_telling_signal_buys_quality_where_it_is_needed(seed: int) -> None:
    (table, p), (test, q) = two(600, seed, 3.0), two(600, seed + 10, 3.0)
    found = play(fit_cascade(table, p), "m0", q, test, PRICES, 0.05)
    assert found.share == pytest.approx(0.5, abs=0.1)  # those that were wrong
    assert found.price == pytest.approx(1 + 4 * found.share, abs=1e-4)
    # at this share of calls, a coin would give 0.5 + 0.4 x share
    assert found.quality > 0.5 + 0.4 * found.share + 0.1
    looked = fit_cascade(table, p).look("m0", q, test.signals["sure"][:, :1])
    right = test.quality[:, 0] > 0.5
    assert float(looked.answer[right].mean()) > 0.8 > 0.2 > float(looked.answer[~right].mean())
    # the other model's chances do not hang on the first one's here, and so do not follow
    assert float((looked.others[:, 1] - 0.9).abs().mean()) < 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_signal_that_is_noise_changes_nothing(seed: int) -> None:
    (table, p), (test, q) = two(600, seed, 0.0), two(600, seed + 10, 0.0)
    looked = fit_cascade(table, p).look("m0", q, test.signals["sure"][:, :1])
    assert float((looked.answer - 0.5).abs().max()) < 0.2
    at_many = cross_played(table, p, "m0", PRICES, [0.0, 0.05, 0.5])
    assert [one.share for one in at_many] == sorted((one.share for one in at_many), reverse=True)
    assert at_many[-1].share == 0.0
    assert at_many[-1].price == 1.0


def test_others_follow_where_prompts_are_hard_for_all() -> None:
    make_rows = torch.Generator().manual_seed(0)
    chance = torch.sigmoid(2 * torch.randn(2000, 1, generator=make_rows)).expand(-1, 2)
    quality = (torch.rand(2000, 2, generator=make_rows) < chance).float()
    signal = torch.logit(chance) + 0.1 * torch.randn(2000, 2, generator=make_rows)
    table = replace(planted(rows=2000, models=2).table, quality=quality, signals={"sure": signal})
    found = fit_cascade(table, torch.full((2000, 2), 0.5))
    assert float(found.follow[0]) > 0.8


def test_a_policy_keeps_its_cascade(tmp_path: Path) -> None:
    made: Planted = planted(rows=300, models=2, seed=5)
    signal = 4 * made.table.quality + torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    table = replace(made.table, signals={"sure": signal})
    fitted = fit(table, made.seen, Options(heads=("length", "linear"), folds=3))
    policy = make(fitted, table, {"kind": "none"}, {"m0": 1.0, "m1": 4.0}, lam=0.01)
    policy.save(tmp_path)
    again = RoutingPolicy.load(tmp_path)
    one = made.seen.take([int(fitted.out_of_fold[:, 1].argmax())])  # a prompt that suits the second model
    bad, good = (again.after(one, "m0", {"sure": value}) for value in (-3.0, 7.0))
    assert bad.p_right < 0.2 < 0.8 < good.p_right
    assert bad.ask == "m1"
    assert good.ask is None
    assert bad == policy.after(one, "m0", {"sure": -3.0})
    with pytest.raises(UsageError, match="'length' is missing or not known"):
        again.after(one, "m0", {"sure": 1.0, "length": 2.0})
    with pytest.raises(UsageError, match="no model 'm9'"):
        again.after(one, "m9", {"sure": 1.0})
    bare = make(fitted, made.table, {"kind": "none"}, {})
    assert bare.cascade is None
    with pytest.raises(UsageError, match="knows nothing of answers"):
        bare.after(one, "m0", {"sure": 1.0})
    assert not enough(replace(table, signals={"sure": torch.full_like(signal, torch.nan)}))


def test_signals_are_read_and_joined(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a?", "model": "x", "correct": 1, "signal_sure": 0.5, "signal_words": 3},
        {"prompt": "a?", "model": "x", "correct": 1, "signal_sure": 1.5},
        {"prompt": "a?", "model": "y", "correct": 0},
        {"prompt": "b?", "model": "y", "correct": 0, "signal_sure": -2},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    table = read_table(path)
    assert list(table.signals) == ["sure", "words"]
    torch.testing.assert_close(
        table.signals["sure"], torch.tensor([[1.0, math.nan], [math.nan, -2.0]]), equal_nan=True
    )
    both = joined([table.take([0]), table.with_models(["y"])])
    torch.testing.assert_close(both.signals["sure"], table.signals["sure"], equal_nan=True)
    path.write_text(json.dumps(rows[0] | {"signal_sure": "much"}) + "\n")
    with pytest.raises(UsageError, match="signal_sure is 'much'"):
        read_table(path)
