"""Keep the finished sections of a benchmark in its JSON, so that a run that was stopped goes on from there.

A section is taken from the file only where the same command measured it with the same sources: a digest over
the folders that a benchmark measures decides. Where only some sections are asked for, the others stay as they
are, whoever measured them; a table says when and from what each was measured.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..store.errors import UsageError
from .circumstances import ROOT, commit
from .estimates import Estimate
from .page import Goal, Report, Section

Part = tuple[str, Callable[[], Section | None]]


def digest(folders: Sequence[str | Path]) -> str:
    """Return twelve digits of a SHA-256 over the Python sources and artifacts' heads under `folders` (names
    in the checkout, or paths; of single files too).
    """
    found = hashlib.sha256()
    for folder in folders:
        root = ROOT / folder
        paths = [root] if root.is_file() else root.rglob("*")
        for path in sorted(p for p in paths if p.suffix in (".py", ".json", ".toml")):
            found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def run_parts(
    report: Report,
    page: Path,
    parts: Sequence[Part],
    stamp: str,
    say: Callable[[str], None] = lambda line: None,
    fresh: bool = False,
    only: Collection[str] = (),
) -> Report:
    """Run every part that `page`'s JSON does not hold under `stamp`; write page and JSON after each.

    `fresh` measures all again; `only` measures these again and leaves the others alone. A part that returns
    None (its data is not there) leaves no section. Raises UsageError for a name in `only` that no part has.
    """
    names = [name for name, _ in parts]
    if unknown := sorted(set(only) - set(names)):
        raise UsageError(f"there is no section {unknown[0]!r} to measure; choose of {', '.join(names)}")
    old = {} if fresh else _sections(page.with_suffix(".json"))
    done: dict[str, dict[str, Any]] = {}
    page.parent.mkdir(parents=True, exist_ok=True)
    for name, part in parts:
        if name in old and (name not in only if only else old[name]["stamp"] == stamp):
            done[name] = old[name]
            say(f"{name}: kept, it took {done[name]['seconds']} s")
        elif not only or name in only:
            if (found := _measured(name, part, stamp, say)) is None:
                continue
            done[name] = found
        # what was measured stays, should the run be stopped, and what it has not come to yet
        rest = {later: old[later] for later in names if later in old and later not in done}
        _write(page, report, done, rest, stamp)
    say(f"wrote {page}")
    return replace(report, sections=(*report.sections, *_page_sections(done)))


def _measured(
    name: str, part: Callable[[], Section | None], stamp: str, say: Callable[[str], None]
) -> dict[str, Any] | None:
    start, busy = time.monotonic(), time.process_time()
    found = part()
    took, spent = round(time.monotonic() - start), round(time.process_time() - busy)
    say(f"{name}: {took} s" if found else f"{name}: left out, no data")
    if found is None:
        return None
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    head = {"seconds": took, "processor": spent, "stamp": stamp, "when": when, "commit": commit()}
    return {**head, "section": asdict(found)}


def _page_sections(done: Mapping[str, Mapping[str, Any]]) -> list[Section]:
    """The sections, and where they were not measured at one go, when each was."""
    found = [section_of(one["section"]) for one in done.values()]
    if len({one["stamp"] for one in done.values()}) > 1:
        rows = tuple(
            (name, *(str(one.get(key, "–")) for key in ("when", "commit", "seconds", "processor")))
            for name, one in done.items()
        )
        header = ("section", "measured", "commit", "seconds", "of the processor")
        text = "Not all sections were measured at one go, so the facts above are those of the newest."
        found.append(Section("When each section was measured", text, header, rows))
    return found


def _write(
    page: Path,
    report: Report,
    done: Mapping[str, Mapping[str, Any]],
    rest: Mapping[str, Mapping[str, Any]],
    stamp: str,
) -> None:
    report = replace(report, sections=(*report.sections, *_page_sections(done)))
    head = {"title": report.title, "facts": dict(report.facts), "stamp": stamp}
    goals = [{**asdict(goal), "met": goal.met} for goal in report.goals]
    sections = {**done, **rest}
    body = json.dumps({**head, "goals": goals, "sections": sections}, indent=1, ensure_ascii=False)
    for path, text in ((page, report.markdown()), (page.with_suffix(".json"), body + "\n")):
        part = path.with_name(f".{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of an earlier run; none where there was no such run, or its file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: {"stamp": found.get("stamp"), **one} for name, one in found.get("sections", {}).items()}


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
