"""A chain does each link once, by what came before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pilothouse.specialists.improve.chain import Link, run_chain


@dataclass
class Desk:
    folder: Path
    seed: int = 0
    lines: list[str] = field(default_factory=list)

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)

    def say(self, line: str) -> None:
        self.lines.append(line)


def writes(name: str, text: str, done: list[str]) -> Callable[[Desk], None]:
    def run(desk: Desk) -> None:
        done.append(name)
        desk.path(name).mkdir(exist_ok=True)
        desk.path(name, "file").write_text(text)

    return run


def chain(done: list[str], first: str = "x", setting: int = 0) -> list[Link[Desk]]:
    return [
        Link("a", writes("a", first, done), setting, ("a",), (), "a"),
        Link("b", writes("b", "y", done), 0, ("b",), ("a",), "b"),
    ]


def test_a_finished_link_is_not_done_twice(tmp_path: Path) -> None:
    done: list[str] = []
    run_chain(chain(done), Desk(tmp_path))
    marks = run_chain(chain(done), Desk(tmp_path))
    assert done == ["a", "b"]
    assert run_chain(chain([]), Desk(tmp_path / "other"))["b"].digest == marks["b"].digest


def test_the_same_bytes_again_do_not_wake_what_follows(tmp_path: Path) -> None:
    done: list[str] = []
    run_chain(chain(done), Desk(tmp_path))
    run_chain(chain(done, setting=1), Desk(tmp_path))
    assert done == ["a", "b", "a"]
    run_chain(chain(done, "z", setting=2), Desk(tmp_path))
    assert done == ["a", "b", "a", "a", "b"]


def test_a_damaged_artifact_is_made_again(tmp_path: Path) -> None:
    done: list[str] = []
    run_chain(chain(done), Desk(tmp_path))
    (tmp_path / "b" / "file").write_text("rubbish")
    run_chain(chain(done), Desk(tmp_path))
    assert done == ["a", "b", "b"]
    assert (tmp_path / "b" / "file").read_text() == "y"


def test_a_linear_chain_follows_the_key_in_front(tmp_path: Path) -> None:
    done: list[str] = []

    def links(setting: int) -> list[Link[Desk]]:
        return [Link("a", writes("a", "x", done), setting), Link("b", writes("b", "y", done))]

    run_chain(links(0), Desk(tmp_path), until="a")
    assert done == ["a"]
    run_chain(links(0), Desk(tmp_path))
    run_chain(links(1), Desk(tmp_path))
    assert done == ["a", "b", "a", "b"]
    with pytest.raises(ValueError, match="no step 'c'"):
        run_chain(links(0), Desk(tmp_path), until="c")


def test_an_interrupted_link_keeps_its_checkpoints_until_its_settings_change(tmp_path: Path) -> None:
    def stops(desk: Desk) -> None:
        desk.path("a").mkdir(exist_ok=True)
        desk.path("a", "checkpoint").touch()
        raise KeyboardInterrupt

    seen: list[bool] = []

    def looks(desk: Desk) -> None:
        seen.append(desk.path("a", "checkpoint").exists())

    with pytest.raises(KeyboardInterrupt):
        run_chain([Link("a", stops, 0, ("a",))], Desk(tmp_path))
    run_chain([Link("a", looks, 0, ("a",))], Desk(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run_chain([Link("a", stops, 1, ("a",))], Desk(tmp_path))
    run_chain([Link("a", looks, 2, ("a",))], Desk(tmp_path))
    assert seen == [True, False]
