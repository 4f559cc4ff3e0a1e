"""The whole benchmark, small, on the shipped family without data: it ends, and says what it left out."""

import shutil
from pathlib import Path

import pytest

from pilothouse.bench.starter.run import run, write_figures
from pilothouse.specialists.family import STARTER, Family, known_families

SECTIONS = (
    "Skills",
    "The right specialist",
    "Routed answers",
    "Routed answers to free paraphrases",
    "Calibration, and prompts out of scope",
    "Abstention",
    "Explanations",
    "Steering",
    "Prompts of several asks",
    "Latency",
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(STARTER not in known_families(), reason="the starter family is not in this checkout")
def test_a_quick_run_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    report = run(Family.open(STARTER), None, tmp_path, seed=0, quick=True)
    page = (tmp_path / "starter.md").read_text(encoding="utf-8")
    assert [section.title for section in report.sections] == list(SECTIONS)
    assert "A quick trial on few rows: not a result." in page
    assert {g.what for g in report.goals if g.met is None} >= {"facts: one hop", "facts: two hops"}
    for section in report.sections:
        for name, _ in section.pictures:
            assert (tmp_path / name).stat().st_size > 5000
    exact = next(goal for goal in report.goals if goal.what.startswith("|sum of contributions"))
    assert exact.met


@pytest.mark.skipif(STARTER not in known_families(), reason="the starter family is not in this checkout")
def test_figures_go_on_the_cards_of_a_family_that_stays_sealed(tmp_path: Path) -> None:
    folder = tmp_path / STARTER
    shutil.copytree(Family.open(STARTER).folder, folder)
    write_figures(folder, {"facts": {"one hop": {"specialist": 0.9, "trunk": 0.5}}})
    found = Family.open(folder)
    found.verify()
    assert found.card("facts").metrics == {"one hop": {"specialist": 0.9, "trunk": 0.5}}
