"""The benchmark of routing: draws do not leak, figures rank what is planted, tables are read as they come."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pilothouse.bench.routing import family, pool, sets
from pilothouse.bench.routing.protocol import (
    CONFIDENCE,
    LEAKY,
    Board,
    group_draws,
    random_draws,
    rows_of,
    run_baselines,
    run_references,
    run_stack,
)
from pilothouse.bench.starter.matrix import Matrix
from pilothouse.router.routing.fitting import Options
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.store.errors import NotFoundError


def small() -> pool.Pool:
    """Two models of a planted pool, complete labels; the second is at least as good on every prompt."""
    made = pool.pool(300, 0, models=2, width=16)
    rows = torch.nonzero(made.table.labelled.all(1))[:, 0]
    table = made.table.take(rows)
    both = torch.stack([table.quality.amin(1), table.quality.amax(1)], 1)
    return pool.Pool(replace(table, quality=both), made.seen.take(rows), made.p[rows])


def test_draws_share_no_row_and_no_group() -> None:
    table = small().table
    for draw in random_draws(table, 100, 3):
        assert not set(draw.train.tolist()) & set(draw.test.tolist())
        assert len(draw.train) + len(draw.test) == len(table)
    for draw in group_draws(table, 2, 3, 50):
        learnt, judged = ({table.groups[i] for i in rows.tolist()} for rows in (draw.train, draw.test))
        assert not learnt & judged
        assert len(judged) == 2
        assert len(draw.train) <= 50
        assert draw.options.by_group


def test_a_board_ranks_oracle_above_stack_above_chance() -> None:
    data = small()
    board = Board.of(data.table, 0)
    draws = [
        type(d)(d.train, d.test, Options(heads=("linear", "guess"))) for d in random_draws(data.table, 120, 2)
    ]
    run_baselines(board, draws)
    run_stack(board, draws, data.seen, "stack", lambda line: None, heads=True)
    gap = board.difference("stack", "random")
    assert gap.low > 0
    assert gap.value == pytest.approx(board.value("stack").apgr - board.value("random").apgr)
    names = [row[0] for row in rows_of(board)]
    assert names[0].startswith("oracle")
    assert "stack: guess alone" in names
    assert board.estimate("random").low < 0.5 < board.estimate("random").high


def test_routers_of_fewer_draws_are_compared_on_those() -> None:
    data = small()
    board = Board.of(data.table, 0)
    draws = random_draws(data.table, 120, 3)
    truth = (data.table.quality[:, 1] - data.table.quality[:, 0]).double()
    for number, draw in enumerate(draws):
        noise = torch.rand(len(draw.test), generator=torch.Generator().manual_seed(number)).double()
        board.add("long", draw.test, truth[draw.test] if number < 2 else noise)
    for draw in draws[:2]:
        board.add("short", draw.test, truth[draw.test])
    found = board.difference("long", "short")
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert board.value("long").apgr < board.value("short").apgr
    assert [row[2].split(" / ")[1] for row in rows_of(board)] == ["2", "3"]


def test_references_that_need_no_fit() -> None:
    data = small()
    board = Board.of(data.table, 0)
    draws = random_draws(data.table, 120, 2)
    gain = data.table.quality[:, 1] - data.table.quality[:, 0]
    run_references(board, draws, torch.stack([1 - gain, torch.zeros_like(gain)], 1))
    for draw in draws:
        board.add("truth", draw.test, gain[draw.test].numpy())
    # planted: unsure exactly where the better model gains, which nobody can beat
    assert board.value(CONFIDENCE).apgr == board.value("truth").apgr
    assert 0.4 < board.value(LEAKY).apgr < board.value(CONFIDENCE).apgr


def test_everybodys_answers_become_a_table() -> None:
    history = (("Hello", "Hi"),)
    examples = [
        Example("2 + 2?", "4", "sums", "k", "s", "exact"),
        Example("And?", "x", "tales", "k", "s", "exact", history),
    ]
    right = {"sums": np.array([1.0, 0.0]), "tales": np.array([0.0, 1.0])}
    found = family.table_of(Matrix(examples, torch.zeros(2, 1), [], right, {}))
    assert found.models == ("sums", "tales")
    assert found.groups == ("sums", "tales")
    assert found.quality.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert [(turn.role, turn.content) for turn in found.turns[1]] == [
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "And?"),
    ]


def test_a_pool_is_as_planted_and_its_risk_is_checked() -> None:
    made = pool.pool(400, 3, models=4, width=20)
    known = made.table.labelled
    gap = (made.table.quality - made.p)[known]
    assert abs(float(gap.mean())) < 0.05
    assert 0.7 < float(known.float().mean()) < 0.95
    assert torch.equal(pool.pool(400, 3, models=4, width=20).p, made.p)


def test_public_tables_are_read_as_they_come(tmp_path: Path) -> None:
    folder = tmp_path / sets.FOLDER
    folder.mkdir(parents=True)
    header = ["prompt", sets.WEAK, sets.STRONG]
    with tarfile.open(folder / "routellm_mmlu_responses.tar.gz", "w:gz") as archive:
        for subject in ("law", "anatomy"):
            text = io.StringIO()
            csv.writer(text).writerows([header, [f"{subject}?", "True", "False"], ["both?", "False", "True"]])
            raw = text.getvalue().encode()
            member = tarfile.TarInfo(f"x/mmlu_{subject}.csv")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    found = sets.mmlu(tmp_path)
    assert found.texts == ("anatomy?", "both?", "law?")
    assert found.groups == ("anatomy", "anatomy", "law")
    np.testing.assert_array_equal(found.quality.numpy(), [[1, 0], [0, 1], [1, 0]])
    with gzip.open(folder / "gsm8k_responses.csv.gz", "wt", newline="") as file:
        csv.writer(file).writerows([[*header, "other"], ["sum?", "True", "True", "text"]])
    assert len(sets.gsm8k(tmp_path)) == 1
    with pytest.raises(NotFoundError):
        sets.mmlu(tmp_path / "nowhere")
