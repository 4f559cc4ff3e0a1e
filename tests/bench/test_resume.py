"""Benchmarks by section: what was measured is kept, and some sections can be measured again alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilothouse.bench.estimates import Estimate
from pilothouse.bench.page import Goal, Report, Section
from pilothouse.bench.resume import Part, digest, run_parts
from pilothouse.store.errors import UsageError


class Counted:
    """Two parts that count how often they ran, and a third that has no data."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def parts(self) -> list[Part]:
        def part(name: str) -> Part:
            def made() -> Section:
                self.ran.append(name)
                value = float(len(self.ran))
                goal = Goal(name, "at least", 1.0, "", Estimate(value, value, value, 1))
                return Section(name.title(), "text", ("a",), ((f"run {len(self.ran)}",),), (goal,))

            return name, made

        return [part("one"), part("two"), ("none", lambda: None)]


def run(found: Counted, page: Path, stamp: str, **more: object) -> Report:
    return run_parts(Report("T", "about", (("command", stamp),)), page, found.parts(), stamp, **more)  # type: ignore[arg-type]


def test_a_second_run_keeps_what_the_same_sources_measured(tmp_path: Path) -> None:
    found, page = Counted(), tmp_path / "p.md"
    assert len(run(found, page, "a").sections) == 2
    run(found, page, "a")
    assert found.ran == ["one", "two"]
    assert "When each section" not in page.read_text()
    run(found, page, "b")
    assert found.ran == ["one", "two"] * 2
    run(found, page, "b", fresh=True)
    assert found.ran == ["one", "two"] * 3


def test_one_section_alone_is_merged_into_the_page(tmp_path: Path) -> None:
    found, page = Counted(), tmp_path / "p.md"
    run(found, page, "a")
    report = run(found, page, "b", only=["two"])
    assert found.ran == ["one", "two", "two"]
    assert [one.title for one in report.sections] == ["One", "Two", "When each section was measured"]
    text = page.read_text()
    assert "run 1" in text
    assert "run 3" in text
    assert "run 2" not in text
    assert "2 of 2 targets met" in text
    kept = json.loads(page.with_suffix(".json").read_text())["sections"]
    assert (kept["one"]["stamp"], kept["two"]["stamp"]) == ("a", "b")
    run(found, page, "b")  # the section of other sources is measured again, the other one is kept
    assert found.ran == ["one", "two", "two", "one"]
    assert "When each section" not in page.read_text()
    with pytest.raises(UsageError, match="no section 'three'"):
        run(found, page, "b", only=["three"])


def test_one_section_of_a_page_that_is_not_there_yet(tmp_path: Path) -> None:
    found, page = Counted(), tmp_path / "p.md"
    assert [one.title for one in run(found, page, "a", only=["two"]).sections] == ["Two"]
    run(found, page, "a")
    assert found.ran == ["two", "one"]
    assert page.read_text().index("## One") < page.read_text().index("## Two")


def test_a_digest_sees_single_files(tmp_path: Path) -> None:
    one = tmp_path / "one.py"
    one.write_text("a = 1\n")
    before = digest([one])
    one.write_text("a = 2\n")
    assert digest([one]) != before
    assert digest([tmp_path]) != digest([tmp_path / "none"])
