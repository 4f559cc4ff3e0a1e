"""Keep the finished sections of a benchmark in its JSON, so that a run that was stopped goes on from there.

A section is taken from the file only where the same command measured it with the same sources: a digest over
the folders that a benchmark measures decides.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .circumstances import ROOT
from .estimates import Estimate
from .page import Goal, Report, Section

Part = tuple[str, Callable[[], Section | None]]


def digest(folders: Sequence[str | Path]) -> str:
    """Return twelve digits of a SHA-256 over the Python sources and artifacts' heads under `folders` (names
    in the checkout, or paths).
    """
    found = hashlib.sha256()
    for folder in folders:
        root = ROOT / folder
        for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".json", ".toml")):
            found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def run_parts(
    report: Report,
    page: Path,
    parts: Sequence[Part],
    stamp: str,
    say: Callable[[str], None] = lambda line: None,
    fresh: bool = False,
) -> Report:
    """Run every part that `page`'s JSON does not hold under `stamp`; write page and JSON after each.

    `fresh` measures all again. A part that returns None (its data is not there) leaves no section.
    """
    kept = {} if fresh else _kept(page.with_suffix(".json"), stamp)
    done: dict[str, dict[str, Any]] = {}
    page.parent.mkdir(parents=True, exist_ok=True)
    for name, part in parts:
        if name in kept:
            done[name], found = kept[name], section_of(kept[name]["section"])
            say(f"{name}: kept, it took {done[name]['seconds']} s")
        else:
            start = time.monotonic()
            found = part()
            took = round(time.monotonic() - start)
            say(f"{name}: {took} s" if found else f"{name}: left out, no data")
            if found is not None:
                done[name] = {"seconds": took, "section": asdict(found)}
        if found is not None:
            report = replace(report, sections=(*report.sections, found))
        _write(page, report, done, stamp)
    say(f"wrote {page}")
    return report


def _write(page: Path, report: Report, done: Mapping[str, Mapping[str, Any]], stamp: str) -> None:
    head = {"title": report.title, "facts": dict(report.facts), "stamp": stamp}
    goals = [{**asdict(goal), "met": goal.met} for goal in report.goals]
    body = json.dumps({**head, "goals": goals, "sections": done}, indent=1, ensure_ascii=False)
    for path, text in ((page, report.markdown()), (page.with_suffix(".json"), body + "\n")):
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)


def _kept(path: Path, stamp: str) -> dict[str, dict[str, Any]]:
    """The sections of an earlier run; none where there was no such run, or its file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(found.get("sections", {})) if found.get("stamp") == stamp else {}


def section_of(value: Mapping[str, Any]) -> Section:
    """Read a section back from plain values."""
    goals = tuple(
        Goal(**{**goal, "found": Estimate(**goal["found"]) if goal["found"] else None})
        for goal in value["goals"]
    )
    return Section(
        value["title"],
        value["text"],
        tuple(value["header"]),
        tuple(tuple(row) for row in value["rows"]),
        goals,
        tuple((name, words) for name, words in value["pictures"]),
        tuple(value["notes"]),
    )
