"""The factory itself: builds killed at random moments, repeated, and weighed against their estimate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from ...specialists.improve.finetune_full import Sft
from ...specialists.models import quiet
from ...store.paths import HOME
from .. import estimates
from ..page import Goal, Section
from . import toys
from .lab import Lab

KILLS = 2
RECIPE = """
format = 1
name = "factory"
seed = {seed}
trunk = "trunk"
licence = "Apache-2.0"

[data.lessons]
generator = "symbols:mirror,reverse"
rows = 400

[data.held]
generator = "symbols:mirror"
split = "test"
rows = 40
test = true

[[steps]]
step = "finetune"
name = "tuned"
method = "region"
layers = [1, 2]
data = "lessons"
test_data = "held"
steps = {steps}
rows = {rows}
every = {every}

[[steps]]
step = "finetune"
name = "adapter"
from = "trunk"
method = "alora"
data = "lessons"
rank = 4
steps = {steps}
rows = {rows}
every = {every}

[[steps]]
step = "distill"
name = "student"
from = ["trunk", "tuned", "adapter"]
data = "lessons"
test_data = "held"
labelled = 40
layers = [0, 1]
steps = {steps}
rows = {rows}
every = {every}
router_steps = 10
longest = 8
"""
MAIN = "from pilothouse.agents.cli.main import main; main()"


@dataclass(frozen=True)
class Shape:
    """The recipe's model, its steps and batches, and how long the trunk learns to end its answers before."""

    width: int
    layers: int
    steps: int
    rows: int
    before: int


def prepare(folder: Path, seed: int, shape: Shape) -> Path:
    """Write a recipe and its trunk into ``folder``. The trunk knows how to copy: a teacher whose answers do
    not end teaches nothing.
    """
    codec = toys.codec_in(folder / "trunk")
    model = toys.decoder(codec, shape.layers, shape.width, seed)
    plan = Sft(rows=shape.rows, steps=shape.before, rate=2e-3, warmup=5, seed=seed)
    with quiet():
        toys.trained(codec, model, toys.draw(("copy",), "train", 600, seed), plan, folder / "before")
        model.save_pretrained(folder / "trunk")
    recipe = folder / "recipe.toml"
    every = max(1, shape.steps // 6)
    recipe.write_text(RECIPE.format(seed=seed, steps=shape.steps, rows=shape.rows, every=every))
    return recipe


def command(recipe: Path, work: Path) -> list[str]:
    """The build as a user would run it."""
    return [
        sys.executable,
        "-P",
        "-c",
        MAIN,
        "build",
        str(recipe),
        "--work",
        str(work),
        "--resume",
        "--json",
        "-q",
    ]


def environment(folder: Path) -> dict[str, str]:
    """This process's environment with a home of its own and one thread."""
    return {
        **os.environ,
        HOME: str(folder / "home"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def build(recipe: Path, work: Path) -> dict[str, Any]:
    """Build to the end; return the card.

    Raises:
        RuntimeError: the build failed.
    """
    done = subprocess.run(
        command(recipe, work), env=environment(work.parent), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the build failed ({done.returncode}): {done.stderr[-800:]}")
    card: dict[str, Any] = json.loads(done.stdout)
    return card


def kill(recipe: Path, work: Path, lines: int, pause: float) -> bool:
    """Start a build and kill it some seconds after it has written so many more lines to its log; say whether
    it was still at work. Lines, not seconds: how fast it runs changes with what else the machine does.
    """
    log = work / "run.log"
    wanted = len(_lines(log)) + lines
    process = subprocess.Popen(
        command(recipe, work),
        env=environment(work.parent),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and len(_lines(log)) < wanted:
        time.sleep(0.05)
    time.sleep(pause)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return not _where(log).startswith("done")


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def digests(card: dict[str, Any]) -> dict[str, str]:
    """The SHA-256 of every artifact."""
    return {name: step["sha256"] for name, step in card["steps"].items()}


def trial(lab: Lab, seed: int) -> dict[str, Any]:
    """One recipe built twice whole, and once in spite of kills."""
    folder = lab.folder(f"factory/{seed}")
    recipe = prepare(folder, seed, Shape(32, 2, 6, 8, 40) if lab.quick else Shape(64, 2, 36, 32, 60))
    whole = build(recipe, folder / "whole")
    again = build(recipe, folder / "again")
    rng, killed, places = Random(seed), 0, []
    told = len(_lines(folder / "whole" / "run.log"))
    for _ in range(KILLS):
        if kill(recipe, folder / "killed", rng.randint(1, max(1, told // KILLS)), rng.uniform(0, 0.2)):
            killed += 1
            places.append(_where(folder / "killed" / "run.log"))
    resumed = build(recipe, folder / "killed")
    return {
        "killed": killed,
        "places": places,
        "resumed": float(digests(resumed) == digests(whole)),
        "repeated": float(digests(again) == digests(whole)),
    }


def _where(log: Path) -> str:
    lines = _lines(log)
    return lines[-1].partition("] ")[2] if lines else "before the first step"


def weighed(lab: Lab, seed: int) -> dict[str, dict[str, float]]:
    """Estimated and measured peak memory of each step, on a model large enough to weigh."""
    folder = lab.folder(f"factory-memory/{seed}")
    recipe = prepare(folder, seed, Shape(32, 2, 2, 8, 40) if lab.quick else Shape(512, 8, 2, 32, 25))
    card = build(recipe, folder / "run")
    return {name: step["figures"]["memory"] for name, step in card["steps"].items()}


def section(lab: Lab) -> Section:
    """Measure resuming, repeating and the memory estimate."""
    trials = [lab.keep(f"factory/{s}", lambda s=s: trial(lab, s)) for s in lab.seeds]  # type: ignore[misc]
    memory = lab.keep("factory/memory", lambda: weighed(lab, lab.seeds[0]))
    places = [place for t in trials for place in t["places"]]
    keys = ("estimated", "peak", "before")
    rows = tuple(
        (name, *(f"{m[k] / 1e6:,.0f} MB" for k in keys), f"{m['estimated'] / m['peak'] - 1:+.1%}")
        for name, m in memory.items()
    )
    return Section(
        "The factory: killed, repeated, weighed",
        f"A recipe of three steps (part of a model, an adapter, a student of both) in a process of its own, "
        f"one thread, killed {KILLS} times with SIGKILL at random moments and resumed. Memory is weighed on "
        f"{'a small model' if lab.quick else 'a model of width 512 and 8 layers'}.",
        ("step", "estimated peak", "measured peak", "process before", "estimate off by"),
        rows,
        _goals(trials, memory, lab.seeds[0]),
        notes=(f"Killed at: {'; '.join(places) or 'no kill came in time'}.",),
    )


def _goals(
    trials: Sequence[dict[str, Any]], memory: dict[str, dict[str, float]], seed: int
) -> tuple[Goal, ...]:
    off = [abs(m["estimated"] / m["peak"] - 1) for m in memory.values()]
    kills = sum(t["killed"] for t in trials)
    worst = estimates.Estimate(max(off), max(off), max(off), len(off))
    same = estimates.mean([t["resumed"] for t in trials], seed)
    twice = estimates.mean([t["repeated"] for t in trials], seed)
    return (
        Goal(f"bit-identical artifacts after {kills} kills", "at least", 1.0, "%", same),
        Goal("the same recipe and seed give the same hashes", "at least", 1.0, "%", twice),
        Goal("peak memory off its estimate, worst step", "at most", 0.2, "%", worst),
    )
