"""Options that `route fit` and `route compare` share, and what a cascade's table adds."""

from __future__ import annotations

import inspect
import json
import random
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pilothouse.agents.cli import route
from pilothouse.agents.cli.tables import Job, sharing
from pilothouse.store.errors import UsageError


def run(*arguments: str | Path) -> Any:
    done = CliRunner().invoke(route.app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_commands_that_learn_share_every_option_of_a_job() -> None:
    shared = inspect.signature(Job).parameters
    for command in (route.fit, route.compare):
        own = inspect.signature(command).parameters
        assert set(shared) <= set(own)
        assert all(own[name].default == one.default for name, one in shared.items())
    assert set(inspect.signature(route.fit).parameters) - set(shared) == {
        "objective",
        "lam",
        "budget",
        "risk",
        "no_report",
        "as_json",
    }


def test_a_shared_command_gets_its_job_and_its_own_options(tmp_path: Path) -> None:
    found: list[Any] = []

    def own(job: Job, twice: bool = False) -> None:
        """Do it."""
        found.extend([job, twice])

    app = typer.Typer()
    app.command()(sharing(own))
    arguments = ["a.csv", "b.csv", "--out", str(tmp_path), "--twice", "--layers", "1,2", "--seed", "7"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    job, twice = found
    assert (job.tables, job.layers, job.seed, twice) == ([Path("a.csv"), Path("b.csv")], "1,2", 7, True)
    assert job.options().seed == 7
    assert job.prices() == {}


def table(folder: Path, rows: int = 120) -> Path:
    """The dear model is always right; the cheap one half the time, and its signal says when."""
    rng = random.Random(0)
    lines = ["prompt,model,correct,cost,signal_logprob"]
    for i in range(rows):
        right = rng.random() < 0.5
        text = f"Which river is number {i} of {rng.randint(1, 99)}?"
        lines.append(f"{text},cheap,{int(right)},1,{(-0.1 if right else -2.0) + rng.gauss(0, 0.2):.3f}")
        lines.append(f"{text},dear,{int(rng.random() < 0.95)},3,")
    path = folder / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_cascade_from_table_to_second_decision(tmp_path: Path) -> None:
    options = ("--scout", "none", "--heads", "length,words", "--quiet", "--json")
    run("fit", table(tmp_path), "-o", tmp_path / "p", "--lam", "0.05", *options)
    report = json.loads((tmp_path / "p/report.json").read_text())
    played = {one["lam"]: one for one in report["cascades"]}
    assert next(iter(played)) == 0.0
    middle = played[0.025]
    assert middle["asked first"] == "cheap"
    assert middle["quality"] > 0.85
    assert 0.2 < middle["went on"] < 0.8
    assert "Cascades" in (tmp_path / "p/report.html").read_text()
    assert {one["name"] for one in report["stack_minus"]} >= {"length", "random", "constant"}
    asked = ("decide", tmp_path / "p", "Which river is number 3 of 5?", "--answered", "cheap", "--json")
    sure, unsure = (run(*asked, "--signal", f"logprob={x}") for x in (-0.1, -2.0))
    assert sure["ask"] is None
    assert unsure["ask"] == "dear"
    assert unsure["p_right"] < 0.3 < 0.7 < sure["p_right"]
    with pytest.raises(UsageError, match="'logprob' is missing"):
        run(*asked)
    with pytest.raises(UsageError, match="not NAME=NUMBER"):
        run(*asked, "--signal", "logprob")


def test_who_answered_last_is_kept(tmp_path: Path) -> None:
    options = ("--scout", "none", "--heads", "length,words", "--quiet", "--json", "--no-report")
    run("fit", table(tmp_path), "-o", tmp_path / "p", *options)
    asked = ("decide", tmp_path / "p", "Which river is number 3 of 5?", "--json")
    assert run(*asked)["chosen"] == "dear"
    kept = run(*asked, "--previous", "cheap", "--stickiness", "0.9")
    assert kept["chosen"] == "cheap"
    assert "answered last" in kept["reason"]
    assert run(*asked, "--previous", "cheap", "--stickiness", "0.01")["chosen"] == "dear"
    with pytest.raises(UsageError, match="no model 'nobody'"):
        run(*asked, "--previous", "nobody")
