"""What a user meets: decisions under typing errors, time a decision takes, and a large table."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from ...agents.routers import reopen, turns_of
from ...router.routing.artifact import RoutingPolicy, make
from ...router.routing.fitting import Fitted, Options, fit
from ...router.routing.perturb import PERTURBATIONS, variants
from ...router.routing.scouts import Reader
from ...router.routing.table import Table
from .. import estimates
from ..estimates import Estimate
from ..page import Goal, Section, cell
from .pool import pool
from .wrappers import AFTER, BEFORE

APART = "wrapper by another writer"
ALLOWED = {"typo": 0.05, "paraphrase": 0.05, "wrapper": 0.02}
LARGE = (50_000, 20, 384)


def stability(fitted: Fitted, reader: Reader, test: Table, count: int, seed: int) -> Section:
    """The share of decisions that change, at the lam that sends half of the prompts to the better model."""
    rows = test.take(np.random.default_rng(seed).permutation(len(test))[:count].tolist())
    gain = _gains(fitted, reader, rows.texts)
    cut = float(np.median(gain))
    goals, lines = [], []
    drawn = np.random.default_rng(seed)
    asked = {kind: [variants(text, kind, 1, seed)[0] for text in rows.texts] for kind in PERTURBATIONS}
    asked[APART] = [f"{drawn.choice(BEFORE)}{text}{drawn.choice(AFTER)}" for text in rows.texts]
    for kind, texts in asked.items():
        other = _gains(fitted, reader, texts)
        example = texts[0][:60].replace("\n", "⏎") + "…"
        changed = estimates.mean((other > cut) != (gain > cut), seed)
        clear = np.abs(gain - cut) > np.quantile(np.abs(gain - cut), 0.25)
        near = float(((other > cut) != (gain > cut))[clear].mean())
        what = f"decisions that change under a {kind}"
        if kind in ALLOWED:
            goals.append(Goal(what, "at most", ALLOWED[kind], "%", changed))
        lines.append((kind, example, cell(changed, "%"), f"{100 * near:.1f} %"))
    text = (
        f"{len(rows)} MMLU questions; the threshold sends half of them to the better model, which is where "
        "most decisions are closest. The last column leaves out the quarter of prompts nearest to it. Those "
        f"by another writer are {len(BEFORE)} openings and {len(AFTER)} closings, by who had not seen "
        "which words the router leaves out, and looked at for this row alone."
    )
    header = ("perturbation", "example", "decisions that change", "without the nearest quarter")
    return Section("Stability", text, header, tuple(lines), tuple(goals))


def _gains(fitted: Fitted, reader: Reader, texts: object) -> np.ndarray:
    assert isinstance(texts, list | tuple)
    seen = reader.read([turns_of(text) for text in texts])
    quality = fitted.quality(seen)
    found: np.ndarray = (quality[:, 1] - quality[:, 0]).double().numpy()
    return found


def latency(
    policies: dict[str, RoutingPolicy], beside: dict[str, RoutingPolicy], seed: int, quick: bool
) -> Section:
    """Milliseconds of reading a prompt of 128 tokens and deciding, one at a time; those `beside` have a row
    and no target.
    """
    goals, lines = [], []
    for name, policy in (policies | beside).items():
        reader = reopen(policy.scout)
        text = _of_length(reader)
        whole, reading = [], []
        for number in range(8 if quick else 60):
            begun = time.perf_counter()
            seen = reader.read([turns_of(f"{number % 10}{text}")])
            middle = time.perf_counter()
            policy.decide(seen)
            whole.append(1e3 * (time.perf_counter() - begun))
            reading.append(1e3 * (middle - begun))
        found, read = estimates.median(whole[3:], seed), estimates.median(reading[3:], seed)
        if name in policies:
            goals.append(Goal(f"scout and decision, 128 tokens: {name}", "at most", 15.0, "ms", found))
        lines.append((name, cell(read, "ms"), cell(found, "ms"), f"{np.percentile(whole[3:], 99):.1f} ms"))
    text = (
        "One prompt at a time, one torch thread, the process warm, with the heads that the policy stacked. "
        "Here the trunk is read in int8 (`--precision int8`), for the policy's fit too; the last row is the "
        "same policy with the trunk read exactly. The encoder is read in bfloat16 where the processor has it."
    )
    header = ("router", "scout alone", "scout and decision", "p99")
    return Section("Latency", text, header, tuple(lines), tuple(goals))


def _of_length(reader: Reader, tokens: int = 128) -> str:
    """A text of about so many of the scout's tokens."""
    encode = getattr(reader, "encode", None)
    words = "which of the following best explains why the river rises in spring and falls".split()  # noqa: SIM905
    text = ""
    for number in range(1000):
        longer = f"{text} {words[number % len(words)]}"
        if encode is not None and len(encode(turns_of(longer))) >= tokens:
            break
        text = longer
        if encode is None and number >= tokens:
            break
    return text


def scale(quick: bool, say: Callable[[str], None]) -> Section:
    """Fit a large table in a process of its own, and look at the clock and the memory."""
    rows, models, width = (2000, 20, 64) if quick else LARGE
    script = (
        "import sys; from pilothouse.bench.routing.practice import fit_large as f; f(*map(int, sys.argv[1:]))"
    )
    command = [sys.executable, "-P", "-c", script, str(rows), str(models), str(width)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.split()
    seconds, peak = (float(lines[-2]), float(lines[-1])) if len(lines) >= 2 else (float("nan"),) * 2
    say(f"large table: {seconds:.0f} s, {peak:.2f} GiB {done.stderr[-300:]}")
    what = f"{rows:,} prompts × {models} models"
    goals = (
        Goal(f"fit of {what}, seconds", "at most", 300.0, "s", Estimate(seconds, seconds, seconds, 1)),
        Goal(f"fit of {what}, peak memory in GiB", "at most", 2.0, "", Estimate(peak, peak, peak, 1)),
    )
    text = (
        f"A planted pool of {what}, states of width {width}, all heads that work on it, three folds; the "
        f"whole "
        "process with Python and torch counts as memory. Reading the prompts with a scout is not in it."
    )
    header = ("table", "fit", "peak memory")
    return Section("A large table", text, header, ((what, f"{seconds:.0f} s", f"{peak:.2f} GiB"),), goals)


def fit_large(rows: int, models: int, width: int) -> None:
    """Fit and print seconds and GiB: what `scale` runs."""
    torch.set_num_threads(2)
    data = pool(rows, 3, models, width)
    begun = time.perf_counter()
    fitted = fit(data.table, data.seen, Options(seed=0))
    make(fitted, data.table, {"kind": "none"}, {})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(time.perf_counter() - begun, peak)
