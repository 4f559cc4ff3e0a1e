"""Run links of a chain in order, each skipped once it is done; a kill at any moment loses only the one under
way.

A link is done when its mark (``steps/NAME.json``) carries its key: a hash of its name, its settings and what
came before. Before it stands either the key of the link in front of it, or, where ``after`` names links, the
content of what those made: work that is done again with the same result is not followed by other work.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ..integrity import combined, sha256_of


class Place(Protocol):
    """Where a chain works and how it talks."""

    @property
    def seed(self) -> int:
        """The seed of every draw."""

    def path(self, *parts: str) -> Path:
        """Return a path inside the working folder."""

    def say(self, line: str) -> None:
        """Write one line to the run log."""


W = TypeVar("W", bound=Place)


@dataclass(frozen=True)
class Mark:
    """What is kept of a finished link: its key, seconds, the digest of what it made, its figures."""

    key: str
    seconds: float = 0.0
    digest: str = ""
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Link(Generic[W]):
    """One step of a chain. ``owns`` names what it leaves in the working folder, cleared before it runs with
    another key; ``makes`` is the one of them whose bytes later links depend on.
    """

    name: str
    run: Callable[[W], Mapping[str, Any] | None]
    settings: object = None
    owns: tuple[str, ...] = ()
    after: tuple[str, ...] | None = None
    makes: str | None = None

    def key(self, before: str) -> str:
        """Hash of the link's name, settings and everything before it."""
        return hashlib.sha256(f"{before}/{self.name}/{self.settings!r}".encode()).hexdigest()


def digest_of(path: Path) -> str:
    """Return one SHA-256 over the files below ``path`` (or the file itself), names included."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return combined({p.relative_to(path).as_posix(): sha256_of(p) for p in files})


def read_mark(place: Place, name: str) -> Mark | None:
    """Return the mark of a finished link, None where there is none."""
    path = place.path("steps", f"{name}.json")
    return Mark(**json.loads(path.read_text())) if path.exists() else None


def is_done(link: Link[Any], key: str, place: Place) -> bool:
    """Whether a link finished with this key, and what it made is still what it was."""
    mark = read_mark(place, link.name)
    if mark is None or mark.key != key:
        return False
    return link.makes is None or _same(place.path(link.makes), mark.digest)


def _same(path: Path, digest: str) -> bool:
    return path.exists() and digest_of(path) == digest


def run_chain(links: Sequence[Link[W]], place: W, until: str | None = None) -> dict[str, Mark]:
    """Run the links in order, skipping finished ones, and return their marks.

    Raises:
        ValueError: ``until`` names no link.
    """
    names = [link.name for link in links]
    if until is not None and until not in names:
        raise ValueError(f"no step {until!r}: the steps are {', '.join(names)}")
    marks: dict[str, Mark] = {}
    before = f"seed {place.seed}"
    for number, link in enumerate(links, 1):
        key = key_of(link, before, marks, place.seed)
        title = f"step {number}/{len(links)} {link.name}"
        if is_done(link, key, place):
            place.say(f"{title}: already done")
        else:
            place.say(f"{title}: starts")
            run_link(link, key, place)
        done = read_mark(place, link.name)
        assert done is not None
        marks[link.name], before = done, key
        if link.name == until:
            break
    return marks


def key_of(link: Link[Any], before: str, marks: Mapping[str, Mark], seed: int) -> str:
    """Return a link's key, given the key in front of it and what the links before it made."""
    if link.after is None:
        return link.key(before)
    return link.key(f"seed {seed}/" + "/".join(marks[name].digest for name in link.after))


def run_link(link: Link[W], key: str, place: W) -> None:
    """Run one link and write its mark."""
    begun = time.monotonic()
    clear_stale(link, key, place)
    figures = link.run(place)
    digest = digest_of(place.path(link.makes)) if link.makes else ""
    mark = {"key": key, "seconds": round(time.monotonic() - begun, 1), "digest": digest, "figures": figures}
    _write(place.path("steps", f"{link.name}.json"), mark)


def clear_stale(link: Link[W], key: str, place: W) -> None:
    """Delete what a run of this link with other settings, or after other links, left behind.

    What an interrupted run of the same link left is kept: that is what it resumes from.
    """
    begun = place.path("steps", f"{link.name}.begun.json")
    if begun.exists() and json.loads(begun.read_text())["key"] != key:
        for name in link.owns:
            path = place.path(name)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    _write(begun, {"key": key})


def _write(path: Path, value: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)
