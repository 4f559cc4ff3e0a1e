"""Parts of the recipe that run through `pilothouse build`, and the check before packing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pilothouse.specialists.improve.verify import Finding
from pilothouse.specialists.models import load_model_folder
from pilothouse.specialists.starter import factory, quantizing, student, verifying
from pilothouse.specialists.starter.skills.example import Example
from pilothouse.specialists.starter.work import Work
from pilothouse.store.errors import ArtifactError

ROWS = [Example(f"say {i}", str(i), "words", "plain", "t", "exact") for i in range(12)]
STEP = {"step": "quantize", "allocation": "uniform", "high": 8, "solver": "nearest", "group": 32}


@pytest.fixture
def work(tmp_path: Path) -> Work:
    (tmp_path / "data").mkdir()
    return Work(tmp_path / "work", tmp_path / "data")


def test_steps_run_once_and_leave_the_last_artifact(work: Work, tiny_folder: Path) -> None:
    made = factory.run_recipe(work, "trunk", tiny_folder, {"rows": ROWS}, [STEP], "Apache-2.0")
    head = json.loads((made / "quantization.json").read_text())
    assert set(head["layers"]) == {8}
    load_model_folder(made)
    before = (made / "model.safetensors").stat()
    again = factory.run_recipe(work, "trunk", tiny_folder, {"rows": ROWS}, [STEP], "Apache-2.0")
    assert (again / "model.safetensors").stat() == before
    assert "already done" in work.path("factory", "trunk", "run.log").read_text()


def test_the_students_recipe_has_a_teacher_a_danger() -> None:
    names = [step.get("name") for step in student.recipe_steps()]
    assert names == ["spam", "injection", "harmful", "taught", "tuned", "small"]
    rows = [Example("p", k, "screening", k, "t", "label") for k in ("safe", "spam", "spam", "harmful")]
    assert [row.kind for row in student.hard(rows)] == ["harmful", "safe"]
    assert [row.kind for row in student.of_kinds(rows, ("spam",))] == ["spam", "spam"]


def test_an_adapter_is_stored_in_few_bits(tiny_family: Path, tmp_path: Path) -> None:
    source = tiny_family / "specialists" / "alpha"
    shutil.copytree(source, tmp_path / "whole")
    told = quantizing.quantize_adapter(tmp_path / "whole", tmp_path / "small")
    assert "relative error 0." in told
    head = json.loads((tmp_path / "small" / "quantization.json").read_text())
    assert {one["bits"] for one in head["weights"].values()} == {quantizing.ADAPTER[0]}


def test_what_is_stale_is_not_packed(work: Work) -> None:
    fine = Finding("correct facts", "holds", {"drift": 0.01, "auroc": 0.98})
    verifying.report(work, [fine])
    assert json.loads(work.path("verify.json").read_text())["correct facts"]["verdict"] == "holds"
    with pytest.raises(ArtifactError, match="not packed: vector refuse stale"):
        verifying.report(work, [fine, Finding("vector refuse", "stale", {"cosine": 0.1, "ratio": 1.0})])
