"""`pilothouse bench engines`: native against the lean decoder and Hugging Face's `generate`, in turn."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...specialists.engines.native.model import Context
from .. import circumstances, estimates
from ..page import Goal, Report, Section, cell
from .contenders import (
    Clock,
    Contender,
    Native,
    Times,
    adapters,
    instruments,
    native_contenders,
    other_contenders,
)
from .shapes import SHAPES, Shape, make_folder

PROMPT = 128
ABOUT = (
    "Random weights, prompts of 128 random tokens, greedy. All contenders are loaded at once and take turns, "
    "in another order each round; a figure is the median round, a ratio that of medians with paired rounds "
    "resampled. Weights of 8 and 4 bits are rounded to nearest, one scale for 64 columns, embedding and head "
    "too. Activations meet them in 15 bits unless a row says 8. Tokens are counted over the whole batch."
)


@dataclass
class Found:
    """The rounds of one contender at one batch size."""

    prompt: list[float] = field(default_factory=list)
    token: list[float] = field(default_factory=list)

    def add(self, times: Times) -> None:
        """Keep a round."""
        self.prompt.append(times.prompt)
        self.token.append(times.token)


def run(
    out: Path,
    seed: int,
    quick: bool,
    threads: int | None,
    processor_time: bool,
    say: Callable[[str], None],
) -> Report:
    """Measure every shape and write engines.md."""
    if processor_time:
        Clock.processor, threads = True, 1
    context = Context(threads)
    torch.set_num_threads(context.threads)
    sections = []
    for shape in SHAPES[:1] if quick else SHAPES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            parameters = make_folder(shape, folder, seed)
            say(f"{shape.name}: {parameters / 1e6:.1f} M parameters")
            sections.append(_shape(context, shape, folder, parameters, seed, quick, say))
    command = "pilothouse bench engines" + " --quick" * quick + " --processor-time" * processor_time
    clock = "processor time of one thread: the machine was not quiet" if processor_time else "wall clock"
    more = (("native", f"{context.kernels}, threads: {context.threads}"), ("clock", clock))
    report = Report(
        "Engines on the CPU", ABOUT, (*circumstances.facts(command, seed), *more), tuple(sections)
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "engines.md").write_text(report.markdown())
    return report


def _shape(
    context: Context,
    shape: Shape,
    folder: Path,
    parameters: int,
    seed: int,
    quick: bool,
    say: Callable[[str], None],
) -> Section:
    native, others = native_contenders(context, folder), other_contenders(folder)
    rounds = 3 if quick else shape.rounds
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for batch in (1, 8, 32):
        extra = _with_instruments(native[3], batch)
        found = _measure((*native, *extra, *others), shape, batch, rounds, seed)
        say(f"{shape.name}, batch {batch} measured")
        reference = found[others[-1].name]
        for name, one in found.items():
            rows.append(_row(str(batch), name, one, reference, batch, seed))
        goals += _goals(shape, batch, native[3].name, found, seed)
    notes = [_limit(context, one, shape) for one in (*native[:1], *native[1::2]) if not Clock.processor]
    return Section(
        f"{shape.name}: {parameters / 1e6:.1f} M parameters",
        f"{rounds} rounds. The last column is against Hugging Face's `generate` in the same rounds.",
        ("batch", "engine", "tokens/s, 95 % interval", "prompt of 128, ms", "token / Hugging Face's"),
        tuple(rows),
        tuple(goals),
        notes=tuple(notes),
    )


def _with_instruments(base: Native, batch: int) -> tuple[Native, ...]:
    """The same model with all instruments on every row, and with an adapter for each."""
    plan, each = instruments(base.model), adapters(base.model, batch) if batch <= 8 else []
    found = [Native(f"{base.name}, all instruments", base.model, lambda row: (None, plan), states=1)]
    if each:
        words = "an adapter" if batch == 1 else f"{batch} adapters"
        found.append(Native(f"{base.name}, {words}", base.model, lambda row: (each[row], None)))
    return tuple(found)


def _measure(
    contenders: Sequence[Contender], shape: Shape, batch: int, rounds: int, seed: int
) -> dict[str, Found]:
    order, draw = list(contenders), random.Random(seed)
    prompts = [[draw.randrange(shape.config["vocab_size"]) for _ in range(PROMPT)] for _ in range(batch)]
    found = {one.name: Found() for one in contenders}
    for one in order:  # warm up, and fault in all memory
        one.run(prompts, 1)
    for _ in range(rounds):
        draw.shuffle(order)
        for one in order:
            found[one.name].add(one.run(prompts, shape.tokens[batch]))
    return found


def _row(size: str, name: str, one: Found, reference: Found, batch: int, seed: int) -> tuple[str, ...]:
    rate = estimates.median([batch / seconds for seconds in one.token], seed)
    ratio = estimates.median_ratio(one.token, reference.token, seed)
    prompt = estimates.median([1e3 * seconds for seconds in one.prompt], seed)
    return (
        size,
        name,
        f"{rate.value:.0f} [{rate.low:.0f}, {rate.high:.0f}]",
        cell(prompt, "ms"),
        cell(ratio, "×"),
    )


def _goals(shape: Shape, batch: int, base: str, found: dict[str, Found], seed: int) -> list[Goal]:
    at = f"{shape.name}, batch {batch}"
    goals = [
        Goal(
            f"{at}: taps, 16 probes, gate and steering on every row",
            "at most",
            1.03,
            "×",
            estimates.median_ratio(found[f"{base}, all instruments"].token, found[base].token, seed),
        )
    ]
    if batch == 8:
        each = found[f"{base}, 8 adapters"]
        ratio = estimates.median_ratio(each.token, found[base].token, seed)
        goals.append(Goal(f"{at}: 8 specialists against the bare trunk", "at most", 1.35, "×", ratio))
    return goals


def _limit(context: Context, one: Native, shape: Shape) -> str:
    """How near a single sequence's decoding is to reading its weights once a token."""
    size = one.model.weight_bytes
    reading = sorted(context.read(size, 7))[3]
    prompt = [[1] * PROMPT]
    tokens = sorted(one.run(prompt, shape.tokens[1]).token for _ in range(3))
    return (
        f"{one.name}: {size / 1e6:.1f} MB a token; this much memory is read in {1e3 * reading:.2f} ms "
        f"({size / reading / 1e9:.1f} GB/s), a token takes {1e3 * tokens[1]:.2f} ms: "
        f"{100 * reading / tokens[1]:.0f} % of that bandwidth"
    )
