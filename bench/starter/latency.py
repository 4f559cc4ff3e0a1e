"""Table 8: where the time of an answer goes, what routing costs, and cold starts of the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from ...agents.answer import Answer
from ...agents.pilot import Pilot
from ...specialists.engines.base import Engine, Sampling
from ...store.ledger import Ledger
from ...store.records import Message
from .. import estimates
from ..page import Goal, Section, cell
from .prompts import draw
from .stage import Stage

TOKENS = 32
T = TypeVar("T")
STEPS = ("probe_ms", "route_ms", "prefill_ms", "decode_ms", "log_ms", "total_ms")
COLD_PROMPT = "What is 347 + 586?"


@dataclass
class Times:
    """Milliseconds of interleaved pairs, and the answers' own timings."""

    routed: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STEPS})


def section(stage: Stage) -> Section:
    """Measure warm and cold."""
    with tempfile.TemporaryDirectory() as home:
        times = warm(stage, Path(home) / "log.db")
        first, whole, shown = cold(stage, Path(home))
    seed = stage.seed
    ratio = estimates.median_ratio(times.routed, times.direct, seed)
    rows = [
        (f"{name.removesuffix('_ms')}, median", str(len(v)), cell(estimates.median(v, seed), "ms"))
        for name, v in times.steps.items()
    ]
    rows += [
        ("full controller, wall clock, median", str(len(times.routed)), _ms(times.routed, seed)),
        ("the right specialist called directly, median", str(len(times.direct)), _ms(times.direct, seed)),
        ("controller / direct (medians, pairs resampled)", str(ratio.n), cell(ratio, "×")),
        ("cold `ask` to its first text, median", str(len(first)), cell(estimates.median(first, seed), "s")),
        ("cold `ask` to its end, median", str(len(whole)), cell(estimates.median(whole, seed), "s")),
        ("cold `log show`, median", str(len(shown)), cell(estimates.median(shown, seed), "s")),
    ]
    goals = (
        Goal("routing overhead, 32-token answer", "at most", 1.10, "×", ratio),
        Goal("cold `ask` to its first text", "at most", 4.0, "s", estimates.median(first, seed)),
        Goal("cold `log show`", "at most", 0.6, "s", estimates.median(shown, seed)),
    )
    return Section(
        "Latency",
        f"Warm: story requests answered with exactly {TOKENS} tokens, by the full controller with the log on "
        "disk and by the same engine's `probe` and `generate` with the same adapter, in turn, order "
        f"alternating; {torch.get_num_threads()} thread(s). Cold: a fresh process each time, its output not "
        "a terminal, so text comes once it is checked; files are in the page cache.",
        ("measure", "n", "value"),
        tuple(rows),
        goals,
    )


def _ms(values: Sequence[float], seed: int) -> str:
    return cell(estimates.median(values, seed), "ms")


# -- warm -------------------------------------------------------------------------------------------------


def warm(stage: Stage, log: Path) -> Times:
    """Ask prompts both ways in turn. Each prompt is used once, so no reading of it is remembered.

    Raises:
        ValueError: too few answers had the wanted length.
    """
    from langgraph.checkpoint.memory import InMemorySaver

    prompts = [
        e.prompt for e in draw("stories", "test", 4 * stage.sizes.pairs + 8, stage.seed + 5, stage.data)
    ]
    times = Times()
    with Ledger.open(log) as ledger, Pilot(stage.family, ledger, threads=InMemorySaver()) as pilot:
        engine = pilot.warm().ship.engine
        for index, prompt in enumerate(prompts):
            if len(times.routed) == stage.sizes.pairs:
                break
            _pair(pilot, engine, prompt, index, times)
    if not times.routed:
        raise ValueError(f"no story answer had {TOKENS} tokens; there is nothing to compare")
    return times


def _pair(pilot: Pilot, engine: Engine, prompt: str, index: int, times: Times) -> None:
    """Time one prompt both ways; the first prompts warm up, and unlike answers are left out."""

    def routed() -> Answer:
        return pilot.ask(prompt, max_tokens=TOKENS)

    def direct() -> int:
        prefill = engine.probe(engine.encode_chat((Message(role="user", content=prompt),)))
        return sum(1 for _ in engine.generate(prefill, "stories", Sampling(max_tokens=TOKENS)))

    if index % 2:
        answer, ours = timed(routed)
        count, theirs = timed(direct)
    else:
        count, theirs = timed(direct)
        answer, ours = timed(routed)
    alike = answer.specialist == "stories" and not answer.steering and answer.usage.completion_tokens == count
    if index < 2 or not alike or count != TOKENS:
        return
    times.routed.append(ours)
    times.direct.append(theirs)
    for name in STEPS:
        times.steps[name].append(getattr(answer.timings, name))


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` returns, and its milliseconds."""
    begun = time.perf_counter()
    found = work()
    return found, 1e3 * (time.perf_counter() - begun)


# -- cold -------------------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    """The installed console script, or the same entry through this interpreter."""
    script = Path(sys.executable).with_name("pilothouse")
    if script.is_file():
        return [str(script), *arguments]
    code = "from pilothouse.agents.cli.main import main; main()"
    return [sys.executable, "-P", "-c", code, *arguments]


def environment(home: Path, family: Path) -> dict[str, str]:
    """A home of its own, so that no setting or log of the user is read or written."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PILOTHOUSE_")}
    return kept | {"PILOTHOUSE_HOME": str(home), "PILOTHOUSE_FAMILY": str(family.absolute())}


def cold(stage: Stage, home: Path) -> tuple[list[float], list[float], list[float]]:
    """Seconds to the first text of `ask`, to its end, and of `log show`; one run before is not counted."""
    around = environment(home / "cold", stage.family.folder)
    first, whole, shown = [], [], []
    for index in range(stage.sizes.cold + 1):
        until_first, until_end = run_ask(around)
        begun = time.perf_counter()
        subprocess.run(command("log", "show", "last"), env=around, check=True, capture_output=True)
        spent = time.perf_counter() - begun
        if index:
            first.append(until_first)
            whole.append(until_end)
            shown.append(spent)
    return first, whole, shown


def run_ask(around: dict[str, str]) -> tuple[float, float]:
    """Seconds until `ask` prints its first byte, and until it ends.

    Raises:
        RuntimeError: it failed or printed nothing.
    """
    begun = time.perf_counter()
    with subprocess.Popen(
        command("ask", COLD_PROMPT), env=around, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        letter = child.stdout.read(1)
        first = time.perf_counter() - begun
        child.stdout.read()
        fault = child.stderr.read().decode(errors="replace")
    if child.returncode or not letter:
        raise RuntimeError(f"`ask` ended with code {child.returncode}: {fault.strip()[-500:]}")
    return first, time.perf_counter() - begun
