"""Processes that hold parts of a model learn what one does with the whole, and hold no more than parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from launched import FSDP, build_together, together
from recipes import HEAD
from safetensors.torch import load_file
from splitting import RUNS, split, taught

from pilothouse.specialists.improve import crew as crews
from pilothouse.specialists.improve.build import build
from pilothouse.specialists.improve.recipe import Recipe, plan
from pilothouse.specialists.improve.shards import check_launch
from pilothouse.store.errors import UsageError

FULL = """
[[steps]]
step = "finetune"
name = "first"
method = "full"
data = "train"
steps = 6
rows = 9
every = 2
clip = 0.5
"""
STEP = '\n[[steps]]\nfrom = {start}\nstep = "{step}"\nname = "{name}"\ndata = "{data}"\nsteps = 3\nrows = 9\n'
LANGUAGES = '\n[data.{name}]\nfile = "{name}.jsonl"\nlicence = "CC0-1.0"\nduplicates = "keep"\n'
WORDS = [("uno", "one"), ("dos", "two"), ("tres", "three"), ("cuatro", "four"), ("cinco", "five")]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def launch(tmp_path: Path) -> dict[str, str]:
    return {"PILOTHOUSE_HOME": str(tmp_path / "home"), **FSDP}


@pytest.fixture
def _forgotten() -> Iterator[None]:
    crews.crew.cache_clear()
    yield
    crews.crew.cache_clear()


def recipe_in(folder: Path, trunk: Path, text: str) -> Path:
    (folder / "trunk").symlink_to(trunk, target_is_directory=True)
    (folder / "recipe.toml").write_text(HEAD + text)
    return folder / "recipe.toml"


def apart(one: Path, two: Path) -> float:
    """The largest difference between two files of weights."""
    first, second = load_file(one), load_file(two)
    assert first.keys() == second.keys()
    return max(float((first[n].float() - second[n].float()).abs().max()) for n in first)


@pytest.mark.slow
def test_parts_learn_what_the_whole_does_and_wrong_averages_and_norms_show(
    tmp_path: Path, tiny_folder: Path
) -> None:
    assert together(split, (tiny_folder, tmp_path), 2, FSDP) == [0, 0]
    for run in RUNS:
        whole = taught(tiny_folder, tmp_path / f"one-{run}", run)
        found = [load_file(tmp_path / f"{run}-{rank}.safetensors") for rank in range(2)]
        assert all(torch.equal(found[0][name], found[1][name]) for name in whole)
        gap = max(float((whole[name] - found[0][name]).abs().max()) for name in whole)
        assert gap < 1e-6 if RUNS[run][2] is None else gap > 1e-4, run
    size = sum(t.nbytes for t in load_file(tiny_folder / "model.safetensors").values())
    for rank in range(2):
        facts = json.loads((tmp_path / f"{rank}.json").read_text())
        assert facts["crew"] == "Sharded"
        assert facts["own"] == 0, "the caller's parameters keep nothing whole"
        for what in ("weights", "gradients", "state"):
            assert 0.45 * size < facts[what] < 0.55 * size, what


@pytest.mark.slow
def test_a_build_in_parts_is_one_processs_and_a_kill_and_a_resume_end_in_its_bytes(
    tmp_path: Path, tiny_folder: Path, launch: dict[str, str]
) -> None:
    recipe = recipe_in(tmp_path, tiny_folder, FULL)
    planned = plan(Recipe.read(recipe), tmp_path)
    build(planned, tmp_path / "one")
    made = {n: tmp_path / n / "first" / "model.safetensors" for n in ("one", "two", "killed", "other")}
    argv = [str(recipe), "--work", str(tmp_path / "two")]
    assert build_together(argv, 2, tmp_path / "said", launch) == [0, 0]
    assert apart(made["one"], tiny_folder / "model.safetensors") > 1e-4
    assert apart(made["one"], made["two"]) < 1e-6
    assert (tmp_path / "said" / "1.txt").read_text() == ""

    argv[-1] = str(tmp_path / "killed")
    assert build_together(argv, 2, tmp_path / "said", launch, (1, 3)) == [1, -9]
    shutil.copytree(tmp_path / "killed", tmp_path / "other")
    assert build_together([*argv, "--resume"], 2, tmp_path / "said", launch) == [0, 0]
    assert (tmp_path / "killed" / "run.log").read_text().count("step 2/6") == 1, "it went on"
    assert made["killed"].read_bytes() == made["two"].read_bytes()
    # a checkpoint is one process's own kind: one goes on from it
    build(planned, tmp_path / "other", resume=True)
    assert (tmp_path / "other" / "run.log").read_text().count("step 2/6") == 1
    assert apart(made["one"], made["other"]) < 1e-6


def spoken(folder: Path) -> None:
    """Write rows of two languages, and pairs of them."""
    rows = [{"prompt": f"say {a} {b}", "answer": b, "language": n} for a, b in WORDS for n in ("es", "en")]
    pairs = [{"language": "es", "text": f"{a} barco", "pivot": f"{b} boat"} for a, b in WORDS]
    for name, found in (("spoken", rows), ("same", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.mark.slow
def test_adapters_regions_and_languages_learn_in_parts(
    tmp_path: Path, tiny_folder: Path, launch: dict[str, str]
) -> None:
    spoken(tmp_path)
    trunk = '"trunk"'
    text = LANGUAGES.format(name="spoken") + LANGUAGES.format(name="same")
    for method, more in (("dora", "rank = 4"), ("region", "layers = [0, 1]")):
        text += STEP.format(step="finetune", start=trunk, name=method, data="train")
        text += f'method = "{method}"\n{more}\n'
    text += STEP.format(step="align", start=trunk, name="align", data="spoken")
    text += 'pairs = "same"\nband = [0, 1]\nrate = 1e-3\n'
    recipe = recipe_in(tmp_path, tiny_folder, text)
    build(plan(Recipe.read(recipe), tmp_path), tmp_path / "one")
    argv = [str(recipe), "--work", str(tmp_path / "two")]
    assert build_together(argv, 2, tmp_path / "said", launch) == [0, 0]
    for name in ("dora", "region", "align"):
        made = [tmp_path / run / name / "model.safetensors" for run in ("one", "two")]
        assert apart(made[0], tiny_folder / "model.safetensors") > 1e-4
        assert apart(*made) < 1e-6, name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('step = "finetune"\nmethod = "alora"', "an activated adapter acts through its own copies"),
        ('step = "finetune"\nmethod = "full"\nanchor = 1.0', "mask and anchor compare whole weights"),
        (
            'step = "finetune"\nmethod = "full"\nmask = "update"\nimportance_from = "data"',
            "mask and anchor compare whole weights",
        ),
        ('step = "finetune"\nmethod = "full"\ntrainer = "trl"', 'trainer = "trl" wraps models by itself'),
        (
            'step = "distill"\nfrom = ["trunk", "trunk"]\nloss = "js"\non_policy = 0.5',
            "on_policy samples answers of another length on each",
        ),
    ],
)
def test_what_needs_whole_weights_is_refused_before_any_work(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    recipe = Recipe.read(recipe_in(tmp_path, tiny_folder, f'\n[[steps]]\ndata = "train"\n{text}\n'))
    plan(recipe, tmp_path)  # one process does it
    for name, value in {"WORLD_SIZE": "2", **FSDP}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=rf"set to FSDP, .*: {said}.*; start with DDP \(--multi_gpu\)"):
        plan(recipe, tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FSDP_VERSION", "1", "asks for FSDP version 1: give --fsdp_version 2"),
        ("FSDP_OFFLOAD_PARAMS", "true", "FSDP_OFFLOAD_PARAMS = true asks to offload weights, which is not"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "ACCELERATE_MIXED_PRECISION = bf16 asks for mixed precision"),
    ],
)
@pytest.mark.usefixtures("_forgotten")
def test_a_launch_that_asks_for_more_than_there_is_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    for name, usual in {"WORLD_SIZE": "2", **FSDP}.items():
        monkeypatch.setenv(name, usual)
    check_launch()
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=said):
        crews.crew()
