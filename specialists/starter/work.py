"""A run of the starter recipe: where it works, how far it got, and how it talks."""

from __future__ import annotations

import hashlib
import json
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
    steps.
    """

    name: str
    run: Callable[[Work], None]
    settings: object = None

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
        if mark.exists() and json.loads(mark.read_text())["key"] == key:
            work.say(f"step {number}/{len(steps)} {step.name}: already done")
        else:
            work.say(f"step {number}/{len(steps)} {step.name}: starts")
            begun = time.monotonic()
            step.run(work)
            mark.parent.mkdir(exist_ok=True)
            mark.write_text(json.dumps({"key": key, "seconds": round(time.monotonic() - begun, 1)}))
        if step.name == until:
            return
