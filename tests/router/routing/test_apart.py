"""Rows of one template hold out together: what is learnt of a template by heart says nothing of another."""

from __future__ import annotations

import pytest
import torch
from planted import table_of

from pilothouse.router.routing.fitting import Options, calibration_errors, fit
from pilothouse.router.routing.seen import Seen
from pilothouse.router.routing.table import Table
from pilothouse.store.errors import UsageError


def by_template(templates: int, each: int, seed: int) -> tuple[Table, Seen, tuple[str, ...]]:
    """Whether a model is right depends on the template alone, of which the states show which one it is."""
    make = torch.Generator().manual_seed(seed)
    mean, luck = torch.randn(templates, 24, generator=make), torch.rand(templates, 2, generator=make)
    states = mean.repeat_interleave(each, 0) + 0.1 * torch.randn(templates * each, 24, generator=make)
    quality = (
        torch.rand(templates * each, 2, generator=make) < luck.repeat_interleave(each, 0).round()
    ).float()
    names = tuple(f"t{seed}-{i // each}" for i in range(templates * each))
    texts = [f"prompt {i} of {name}" for i, name in enumerate(names)]
    return table_of(texts, quality), Seen(tuple(texts), states), names


def test_calibration_holds_on_new_templates_only_where_templates_were_held_out() -> None:
    table, seen, names = by_template(40, 12, 0)
    new, new_seen, _ = by_template(60, 12, 1)
    heads = ("linear", "neighbours")
    worst = {
        how: max(calibration_errors(fit(table, seen, options).p_correct(new_seen), new.quality))
        for how, options in {
            "random folds": Options(heads=heads),
            "templates apart": Options(heads=heads, apart=names),
        }.items()
    }
    assert worst["templates apart"] < 0.15
    assert worst["random folds"] > worst["templates apart"] + 0.1


def test_rows_of_one_name_are_held_out_together() -> None:
    table, seen, names = by_template(12, 5, 2)
    whole = fit(table, seen, Options(heads=("linear",), apart=names))
    same = fit(table, seen, Options(heads=("linear",), apart=tuple(name + "!" for name in names)))
    assert whole.out_of_fold.shape == same.out_of_fold.shape == table.quality.shape
    with pytest.raises(UsageError, match="3 names to hold apart for 60 prompts"):
        fit(table, seen, Options(heads=("linear",), apart=names[:3]))
