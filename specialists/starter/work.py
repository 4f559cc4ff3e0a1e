"""A run of the starter recipe: where it works, how far it got, and how it talks."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

TOPICS: tuple[str, ...] = (
    "code",
    "emotion_misinfo",
    "instruct",
    "intent",
    "knowledge",
    "malware_url",
    "math",
    "multilingual",
)
TOPICS += ("models", "probing", "router", "safety", "text")


@dataclass
class Work:
    """The recipe's folder: token streams, checkpoints, step marks and one log file.

    ``data`` is the folder of sources as the user named it; ``sources`` adds what the recipe itself
    generated (the
    teacher's stories) beside links to it.
    """

    folder: Path
    data: Path
    seed: int = 0
    stream: TextIO | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sources.mkdir(exist_ok=True)
        for topic in TOPICS:
            link, target = self.sources / topic, (self.data / topic).resolve()
            if target.is_dir() and not link.is_symlink():
                link.symlink_to(target, target_is_directory=True)

    @property
    def sources(self) -> Path:
        """The data folder as skills read it."""
        return self.folder / "data"

    def path(self, *parts: str) -> Path:
        """Return a path inside the work folder."""
        return self.folder.joinpath(*parts)

    def say(self, line: str) -> None:
        """Write one line to the run log and to the terminal."""
        stamped = f"[{time.strftime('%H:%M:%S')}] {line}"
        with self.path("run.log").open("a") as log:
            log.write(stamped + "\n")
        if self.stream is not None:
            print(stamped, file=self.stream, flush=True)


@dataclass(frozen=True)
class Step:
    """One step of the recipe; it is skipped when it already finished with the same settings after the same
    steps. ``owns`` names what it leaves in the work folder, cleared before it runs with other settings.
    """

    name: str
    run: Callable[[Work], None]
    settings: object = None
    owns: tuple[str, ...] = ()

    def key(self, before: str) -> str:
        """Hash of the step's name, settings and everything before it."""
        return hashlib.sha256(f"{before}/{self.name}/{self.settings!r}".encode()).hexdigest()


def run_steps(steps: Sequence[Step], work: Work, until: str | None = None) -> None:
    """Run the steps in order, skipping finished ones; killing it at any moment loses only the step under way.

    Raises:
        ValueError: ``until`` names no step.
    """
    names = [step.name for step in steps]
    if until is not None and until not in names:
        raise ValueError(f"no step {until!r}: the steps are {', '.join(names)}")
    key = f"seed {work.seed}"
    for number, step in enumerate(steps, 1):
        key = step.key(key)
        mark = work.path("steps", f"{step.name}.json")
        if _read_key(mark) == key:
            work.say(f"step {number}/{len(steps)} {step.name}: already done")
        else:
            work.say(f"step {number}/{len(steps)} {step.name}: starts")
            begun = time.monotonic()
            clear_stale(step, key, work)
            step.run(work)
            _write(mark, {"key": key, "seconds": round(time.monotonic() - begun, 1)})
        if step.name == until:
            return


def clear_stale(step: Step, key: str, work: Work) -> None:
    """Delete what a run of this step with other settings, or after other steps, left behind.

    What an interrupted run of the same step left is kept: that is what it resumes from.
    """
    begun = work.path("steps", f"{step.name}.begun.json")
    if begun.exists() and _read_key(begun) != key:
        for name in step.owns:
            path = work.path(name)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    _write(begun, {"key": key})


def _read_key(path: Path) -> str | None:
    return str(json.loads(path.read_text())["key"]) if path.exists() else None


def _write(path: Path, value: dict[str, object]) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(path)
