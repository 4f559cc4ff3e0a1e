"""A build survives a kill at any step, gives the same bytes, and never registers half a specialist."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from recipes import HEAD
from typer.testing import CliRunner

from pilothouse.agents.cli.build import app
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve import build as building
from pilothouse.specialists.improve import finetune_full, loop
from pilothouse.specialists.improve.build import BuildError, build, clock
from pilothouse.specialists.improve.recipe import Recipe, Whole, plan
from pilothouse.specialists.improve.step import (
    Context,
    Estimate,
    Kind,
    Settings,
    register,
)
from pilothouse.store.errors import InterruptedByUser, UsageError

RECIPE = (
    HEAD
    + """
[[steps]]
step = "finetune"
name = "first"
method = "region"
layers = [0, 1]
data = "train"
steps = 6
rows = 8
every = 2

[[steps]]
step = "finetune"
name = "second"
method = "alora"
data = "train"
rank = 2
steps = 4
rows = 8
every = 2
"""
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def whole(tmp_path: Path, tiny_folder: Path) -> Whole:
    (tmp_path / "trunk").symlink_to(tiny_folder, target_is_directory=True)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return plan(Recipe.read(tmp_path / "recipe.toml"), tmp_path)


def digests(card: dict) -> dict[str, str]:  # type: ignore[type-arg]
    return {name: step["sha256"] for name, step in card["steps"].items()}


def kill_after(monkeypatch: pytest.MonkeyPatch, checkpoints: int, torn: bool = False) -> None:
    """Stop the process's work, as a kill would, in or after the given checkpoint."""
    real, seen = loop.checkpoint, 0

    def checkpoint(*args: object) -> None:
        nonlocal seen
        seen += 1
        if seen == checkpoints and torn:
            folder = args[3]
            assert isinstance(folder, Path)
            before = (folder / "optimizer.safetensors").read_bytes()
            real(*args)  # type: ignore[arg-type]
            (folder / "optimizer.safetensors").write_bytes(before)
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]
        if seen == checkpoints:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "checkpoint", checkpoint)


def test_a_kill_at_any_checkpoint_and_a_resume_give_the_same_bytes(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = digests(build(whole, tmp_path / "whole"))
    assert digests(build(whole, tmp_path / "again")) == wanted
    for number, (checkpoints, resume, torn) in enumerate(
        [(1, True, False), (2, True, True), (3, True, False), (4, True, False), (4, False, False)]
    ):
        folder = tmp_path / f"run{number}"
        with monkeypatch.context() as patch:
            kill_after(patch, checkpoints, torn)
            with pytest.raises(InterruptedByUser, match="finished steps are kept"):
                build(whole, folder)
        assert not (folder / "card.json").exists()
        card = build(whole, folder, resume=resume)
        assert digests(card) == wanted
        assert not list(folder.glob("*.part")) + list(folder.glob("*.run"))
    log = (tmp_path / "run1" / "run.log").read_text()
    assert "starting over" in log


def test_a_finished_recipe_is_not_run_again(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(whole, tmp_path / "run")

    def never(*args: object, **more: object) -> float:
        raise AssertionError("ran again")

    monkeypatch.setattr(finetune_full, "learn", never)
    second = build(whole, tmp_path / "run")
    assert second["steps"] == first["steps"]
    assert second["data"]["train"]["licence"] == "Apache-2.0"
    page = (tmp_path / "run" / "card.md").read_text()
    assert "| first (finetune) | model |" in page


def breaking(whole: Whole, error: Callable[[], Exception]) -> Whole:
    def run(settings: Settings, context: Context) -> dict[str, float]:
        (context.out / "half").write_text("half")
        raise error()

    step = whole.steps[1]
    return replace(whole, steps=(whole.steps[0], replace(step, kind=replace(step.kind, run=run))))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (lambda: FloatingPointError("loss is nan at step 3: lower the rate"), "loss is nan at step 3"),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), "the disk of .* is full; make room"),
        (lambda: Exception("I/O error: No space left on device (os error 28)"), "is full; make room"),
        (lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (lambda: MemoryError(), "out of memory"),
        (lambda: ValueError("odd"), "odd"),
    ],
)
def test_a_failed_step_is_told_and_what_was_finished_is_kept(
    whole: Whole, tmp_path: Path, error: Callable[[], Exception], said: str
) -> None:
    with pytest.raises(BuildError, match=f"step second: .*{said}"):
        build(breaking(whole, error), tmp_path / "run")
    assert (tmp_path / "run" / "first" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "second").exists()
    assert not (tmp_path / "run" / "card.json").exists()
    if "lower" in said:
        assert set(digests(build(whole, tmp_path / "run"))) == {"first", "second"}


def test_a_loss_that_is_not_a_number_stops_the_step(tmp_path: Path, tiny_folder: Path) -> None:
    (tmp_path / "trunk").symlink_to(tiny_folder, target_is_directory=True)
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("rows = 8", "rows = 8\nrate = 1e30\nwarmup = 0", 1))
    wild = plan(Recipe.read(tmp_path / "recipe.toml"), tmp_path)
    with pytest.raises(BuildError, match=r"step first: loss is (nan|inf) at step \d"):
        build(wild, tmp_path / "run")
    assert not (tmp_path / "run" / "first").exists()


def test_two_builds_do_not_share_a_folder(whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with building.alone(folder), pytest.raises(UsageError, match="another build runs"):
        build(whole, folder)


def test_a_run_without_room_is_refused(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = replace(whole.steps[0], estimate=Estimate(1.0, 1, 10**18))
    with pytest.raises(UsageError, match="MB are free: make room"):
        build(replace(whole, steps=(step,)), tmp_path / "run")


class Nothing(Settings):
    text: str = "x"


def test_steps_of_other_packages_take_part(tmp_path: Path, tiny_folder: Path) -> None:
    def run(settings: Nothing, context: Context) -> dict[str, object]:
        (context.out / "report.json").write_text(settings.text)
        return {"from": context.inputs[0].form}

    register(Kind("say", Nothing, run, lambda s, p: Estimate(0.0, 0, 0), lambda s: "report"))
    (tmp_path / "r.toml").write_text(
        f'name = "r"\ntrunk = "{tiny_folder}"\n[[steps]]\nstep = "say"\ntext = "hello"\n'
    )
    card = build(plan(Recipe.read(tmp_path / "r.toml"), tmp_path), tmp_path / "run")
    assert card["steps"]["say"]["figures"]["from"] == "model"
    assert (tmp_path / "run" / "say" / "report.json").read_text() == "hello"


def test_the_command_plans_builds_and_prints_the_card(
    whole: Whole, tmp_path: Path, tiny_family: Path
) -> None:
    recipe = str(tmp_path / "recipe.toml")
    dry = CliRunner().invoke(app, [recipe, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "in all about" in dry.stdout
    assert "MB memory" in dry.stdout
    told = json.loads(CliRunner().invoke(app, [recipe, "--dry-run", "--json"]).stdout)
    assert [s["name"] for s in told["steps"]] == ["first", "second"]
    assert not (tmp_path / "run").exists()
    done = CliRunner().invoke(app, [recipe, "--work", str(tmp_path / "run"), "--quiet"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# toy")


def test_durations_are_told_shortly() -> None:
    assert [clock(s) for s in (3.2, 600, 7200)] == ["3 s", "10 min", "2.0 h"]


def test_registering_an_adapter_changes_the_family_whole(
    tmp_path: Path, tiny_family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder = tmp_path / "fam"
    shutil.copytree(tiny_family, folder)
    text = RECIPE.replace('trunk = "trunk"', 'family = "fam"')
    text = text.replace('name = "second"', 'name = "second"\nfrom = "trunk"')
    text += '[register]\nspecialist = "sorter"\nstep = "second"\ntitle = "Sorter"\ndescription = "Sorts."\n'
    (tmp_path / "recipe.toml").write_text(text)
    whole = plan(Recipe.read(tmp_path / "recipe.toml"), tmp_path)
    before = Family.open(folder).manifest
    with monkeypatch.context() as patch:
        kill_after(patch, 5)
        with pytest.raises(InterruptedByUser):
            build(whole, tmp_path / "run")
    assert Family.open(folder).manifest == before
    build(whole, tmp_path / "run", resume=True)
    found = Family.open(folder)
    found.verify()
    assert "sorter" in found.cards
    card = found.card("sorter")
    assert (card.kind, card.data[0].licence) == ("adapter", "Apache-2.0")
    assert not list(tmp_path.glob(".fam*"))
