"""A run of steps: finished ones are skipped, a change re-runs what depends on it, a kill loses one step."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pilothouse.specialists.starter.work import TOPICS, Step, Work, run_steps


class Story:
    """Steps that note their own runs; one of them may be killed."""

    def __init__(self, folder: Path) -> None:
        self.work = Work(folder / "work", folder / "data")
        self.ran: list[str] = []
        self.kill = ""

    def step(self, name: str, settings: object = None) -> Step:
        def run(work: Work) -> None:
            self.ran.append(name)
            if name == self.kill:
                raise KeyboardInterrupt

        return Step(name, run, settings)

    def run(self, steps: Sequence[Step], until: str | None = None) -> list[str]:
        """Run the steps and return the names of those that really ran."""
        self.ran = []
        run_steps(steps, self.work, until)
        return self.ran

    def three(self, middle: object = 1) -> list[Step]:
        return [self.step("a", 1), self.step("b", middle), self.step("c", 1)]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_finished_steps_are_skipped(story: Story) -> None:
    assert story.run(story.three()) == ["a", "b", "c"]
    assert story.run(story.three()) == []
    assert story.work.path("run.log").read_text().count("already done") == 3


def test_a_changed_setting_runs_that_step_and_the_later_ones_again(story: Story) -> None:
    story.run(story.three())
    assert story.run(story.three(middle=2)) == ["b", "c"]
    assert story.run(story.three(middle=2)) == []
    assert story.run(story.three(middle=1)) == ["b", "c"]


def test_a_new_step_in_between_runs_the_later_ones_again(story: Story) -> None:
    story.run(story.three())
    a, b, c = story.three()
    assert story.run([a, story.step("new"), b, c]) == ["new", "b", "c"]


def test_another_seed_runs_everything_again(story: Story) -> None:
    story.run(story.three())
    story.work.seed = 1
    assert story.run(story.three()) == ["a", "b", "c"]


def test_keys_depend_on_name_settings_and_what_came_before(story: Story) -> None:
    one = story.step("a", {"rate": 0.1})
    keys = [one.key("x"), one.key("y"), story.step("b", {"rate": 0.1}).key("x"), story.step("a").key("x")]
    assert len(set(keys)) == 4
    assert story.step("a", {"rate": 0.1}).key("x") == keys[0]


def test_until_stops_after_that_step(story: Story) -> None:
    assert story.run(story.three(), until="b") == ["a", "b"]
    assert story.run(story.three()) == ["c"]


def test_an_unknown_until_is_refused_before_anything_runs(story: Story) -> None:
    with pytest.raises(ValueError, match="no step 'd': the steps are a, b, c"):
        story.run(story.three(), until="d")
    assert story.ran == []


def test_a_kill_loses_only_the_step_under_way(story: Story) -> None:
    story.kill = "b"
    with pytest.raises(KeyboardInterrupt):
        story.run(story.three())
    assert story.ran == ["a", "b"]
    story.kill = ""
    assert story.run(story.three()) == ["b", "c"]


def test_marks_tell_how_long_a_step_took(story: Story) -> None:
    story.run(story.three())
    mark = json.loads(story.work.path("steps", "a.json").read_text())
    assert 0 <= mark["seconds"] < 5


def test_sources_link_to_the_topics_and_keep_new_files_out_of_the_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "math").mkdir(parents=True)
    (data / "math" / "rows.txt").write_text("1 + 1")
    work = Work(tmp_path / "work", data)
    assert (work.sources / "math" / "rows.txt").read_text() == "1 + 1"
    (work.sources / "stories.txt").write_text("once")
    assert {p.name for p in data.iterdir()} == {"math"}
    assert {p.name for p in work.sources.iterdir()} == {"math", "stories.txt"}
    assert Work(tmp_path / "work", data).sources == work.sources  # opening again is no error
    assert "math" in TOPICS


def test_a_relative_data_folder_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "text").mkdir(parents=True)
    (tmp_path / "data" / "text" / "a.txt").write_text("here")
    monkeypatch.chdir(tmp_path)
    work = Work(tmp_path / "deep" / "work", Path("data"))
    monkeypatch.chdir("/")
    assert (work.sources / "text" / "a.txt").read_text() == "here"


def test_lines_go_to_the_log_and_to_the_terminal(tmp_path: Path) -> None:
    terminal = io.StringIO()
    Work(tmp_path, tmp_path, stream=terminal).say("first")
    Work(tmp_path, tmp_path).say("second")
    log = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split("] ")[1] for line in log] == ["first", "second"]
    assert terminal.getvalue() == log[0] + "\n"


def test_a_changed_step_starts_clean_but_an_interrupted_one_keeps_its_checkpoint(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", tmp_path / "data")

    def stop(at: Work) -> None:
        at.path("own").mkdir(exist_ok=True)
        at.path("own", "checkpoint").write_text("half")
        raise KeyboardInterrupt

    def finish(at: Work) -> None:
        seen.append(at.path("own", "checkpoint").exists())

    seen: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        run_steps([Step("train", stop, 1, ("own",))], work)
    run_steps([Step("train", finish, 1, ("own",))], work)
    run_steps([Step("train", finish, 2, ("own",))], work)
    assert seen == [True, False]
