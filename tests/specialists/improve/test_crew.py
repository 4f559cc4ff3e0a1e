"""Processes started together learn what one does, and any of them may be killed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from launched import build_together
from recipes import HEAD
from safetensors.torch import load_file

from pilothouse.specialists.improve import crew as crews
from pilothouse.specialists.improve.build import build
from pilothouse.specialists.improve.crew import Crew, crew
from pilothouse.specialists.improve.finetune_full import Sft
from pilothouse.specialists.improve.loop import Learning
from pilothouse.specialists.improve.recipe import Recipe, plan
from pilothouse.store.errors import UsageError

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
rows = {rows}
every = 2

[[steps]]
step = "quantize"
data = "train"
"""
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def _forgotten() -> Iterator[None]:
    crews.crew.cache_clear()
    yield
    crews.crew.cache_clear()


def recipe_in(folder: Path, trunk: Path, rows: int = 9) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "trunk").symlink_to(trunk, target_is_directory=True)
    (folder / "recipe.toml").write_text(RECIPE.format(rows=rows))
    return folder / "recipe.toml"


def weights(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[n].flatten() for n in sorted(tensors)])


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_the_main_one_speaks(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = recipe_in(tmp_path, tiny_folder)
    build(plan(Recipe.read(recipe), tmp_path), tmp_path / "one")
    env = {"PILOTHOUSE_HOME": str(tmp_path / "home")}
    said = tmp_path / "said"
    assert build_together([str(recipe), "--work", str(tmp_path / "two")], 2, said, env) == [0, 0]
    one, two = weights(tmp_path / "one" / "first"), weights(tmp_path / "two" / "first")
    moved = (one - weights(tiny_folder)).abs().max()
    assert (one - two).abs().max() < 1e-3 * moved  # batches of nine: the shares are five rows and four
    # the control: half of each batch, which a process without the other would learn, ends elsewhere
    half = recipe_in(tmp_path / "half", tiny_folder, rows=4)
    build(plan(Recipe.read(half), half.parent), tmp_path / "alone")
    assert (one - weights(tmp_path / "alone" / "first")).abs().max() > 0.1 * moved
    assert "done:" in (said / "0.txt").read_text()
    assert (said / "1.txt").read_text() == ""
    log = (tmp_path / "two" / "run.log").read_text()
    assert log.count("step 6/6") == log.count("step 2/2 quantize: starts") == 1


@pytest.mark.slow
def test_a_kill_of_either_process_stops_both_and_a_resume_ends_in_the_same_bytes(
    tmp_path: Path, tiny_folder: Path
) -> None:
    recipe, digests = recipe_in(tmp_path, tiny_folder), []
    env = {"PILOTHOUSE_HOME": str(tmp_path / "home")}
    for death in (None, (0, 3), (1, 5)):
        folder = tmp_path / f"run-{death}"
        argv, said = [str(recipe), "--work", str(folder)], tmp_path / f"said-{death}"
        if death:
            codes = build_together(argv, 2, said, env, death)
            assert codes[death[0]] == -9
            assert codes[1 - death[0]] == 1
            assert not (folder / "card.json").exists()
            argv.append("--resume")
        assert build_together(argv, 2, said, env) == [0, 0]
        card = json.loads((folder / "card.json").read_text())
        digests.append([step["sha256"] for step in card["steps"].values()])
        if death:  # it went on from the checkpoint, not from the start
            assert (folder / "run.log").read_text().count("step 2/6") == 1
    assert digests[1:] == digests[:1] * 2


def test_one_process_is_left_as_it_is() -> None:
    value = torch.tensor(2.0)
    assert crew().mean(value, 3) is value
    assert crew().share([1, 2, 3]) == [1, 2, 3]
    assert crew().once(lambda: {"a"}) == {"a"}
    lone = torch.nn.Linear(1, 1)
    assert crew().join(Learning(lone, torch.optim.SGD(lone.parameters()), Sft(), _loss)) is _loss


def _loss(step: int) -> tuple[torch.Tensor, int]:
    return torch.tensor(0.0), step


def test_shares_are_the_batch_and_none_is_empty() -> None:
    parts = []
    for rank in range(3):
        one = Crew()
        one.rank, one.size = rank, 3
        parts.append(one.share(range(8)))
        with pytest.raises(UsageError, match="a batch has 2 rows for 3 processes: give rows = 3"):
            one.share([1, 2])
    assert sorted(i for part in parts for i in part) == list(range(8))


@pytest.mark.usefixtures("_forgotten")
def test_several_processes_without_accelerate_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UsageError, match=r"2 processes train together, which needs accelerate: pip install"):
        crew()


@pytest.mark.usefixtures("_forgotten")
def test_mixed_precision_is_refused_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(UsageError, match="ACCELERATE_MIXED_PRECISION = bf16 asks for mixed precision, which"):
        crew()


@pytest.mark.usefixtures("_forgotten")
def test_a_launch_that_trains_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate
    from accelerate.utils import DistributedType

    monkeypatch.setenv("WORLD_SIZE", "2")
    other = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    monkeypatch.setattr(accelerate, "Accelerator", lambda **settings: other)
    with pytest.raises(UsageError, match="set to DEEPSPEED: the factory trains in one process, or"):
        crew()
