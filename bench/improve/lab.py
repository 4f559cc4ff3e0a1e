"""What the sections share: seeds, a folder that keeps every finished trial, and the page kept in pieces."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..estimates import Estimate
from ..page import Goal, Report, Section

T = TypeVar("T")


@dataclass(frozen=True)
class Lab:
    """One run of the benchmark. ``keep`` makes a trial once; a killed run goes on behind the last one."""

    work: Path
    seeds: tuple[int, ...]
    quick: bool
    say: Callable[[str], None]

    def keep(self, key: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returned (plain JSON values), from disk where it was made before."""
        path = self.work / f"{key}{'-quick' if self.quick else ''}.json"
        if path.exists():
            found: T = json.loads(path.read_text(encoding="utf-8"))
            return found
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(made), encoding="utf-8")
        part.replace(path)
        self.say(f"{key}: done")
        return made

    def folder(self, key: str) -> Path:
        """Return a folder for a trial's checkpoints and models."""
        path = self.work / "models" / f"{key}{'-quick' if self.quick else ''}"
        path.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class Piece:
    """A finished section with the circumstances under which it was measured."""

    section: Section
    facts: tuple[tuple[str, str], ...]


def save(pieces: Mapping[str, Piece], path: Path) -> None:
    """Write the finished sections as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: {"section": asdict(p.section), "facts": p.facts} for name, p in pieces.items()}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def load(path: Path) -> dict[str, Piece]:
    """Read finished sections back; none where there is no file."""
    if not path.exists():
        return {}
    values = json.loads(path.read_text(encoding="utf-8"))
    return {n: Piece(_section(v["section"]), tuple(map(tuple, v["facts"]))) for n, v in values.items()}


def _section(value: Mapping[str, Any]) -> Section:
    goals = tuple(_goal(g) for g in value["goals"])
    plain = {k: _tuples(v) for k, v in value.items() if k != "goals"}
    return Section(**plain, goals=goals)


def _goal(value: Mapping[str, Any]) -> Goal:
    found = value["found"]
    return Goal(**{**value, "found": None if found is None else Estimate(**found)})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def page(pieces: Mapping[str, Piece], order: Sequence[str], about: str) -> Report:
    """Put finished sections into one page; each says when and at which commit it was measured."""
    sections, facts = [], []
    for name in order:
        if name in pieces:
            piece = pieces[name]
            told = dict(piece.facts)
            facts.append((name, f"{told['command']}, commit {told['commit']}, {told['date']}"))
            sections.append(piece.section)
    last = dict(pieces[next(n for n in reversed(order) if n in pieces)].facts) if facts else {}
    facts += [(k, last[k]) for k in ("hardware", "versions") if k in last]
    return Report("Making specialists", about, tuple(facts), tuple(sections))
