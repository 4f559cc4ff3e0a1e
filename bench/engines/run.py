"""`pilothouse bench engines`: native against the lean decoder and Hugging Face's `generate`, in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ...specialists.engines.native.model import Context
from ...specialists.family import Family
from .. import circumstances, estimates
from ..page import Goal, Report, Section, cell
from ..resume import Part, run_parts
from . import resident, texts
from .contenders import (
    Clock,
    Contender,
    Native,
    adapters,
    instruments,
    native_contenders,
    other_contenders,
)
from .llama import Llama, llama_contenders, program_in
from .mixed import peft_mixed
from .rounds import PROMPT, Found, measure, prompts_for, rate
from .shapes import SHAPES, Shape, make_folder

LONG = 512
ABSENT = (
    "Not compared here: torchao (its int8 and int4 kernels are not installed with the benchmarks). The "
    "targets against vLLM's CPU build (0.5 B, a batch of 8, and 8 adapters) are on [a page](vllm.md) of "
    "their own: vLLM lives in another environment, where `pilothouse bench vllm` measures both engines."
)
NO_LLAMA = " llama.cpp is compared where `--llama` names a folder that it was built in."
# Against llama.cpp of the same bits: shape, batch, how much faster; a prompt of 512 tokens is batch 0.
LLAMA = ((1, 1, 1.5), (2, 1, 1.2), (1, 0, 1.2), (2, 0, 1.2), (1, 8, 4.0))
LIMITS = ("shape", "engine", "weights", "read in", "bandwidth", "a token takes", "share")
LIMIT_ROUNDS = 15
READ = (
    "Reading: all threads sum as many bytes as the weights have, memory that was written before. Rounds of "
    "reading and of decoding behind a prompt of 128 take turns; the share is reading's time by a token's."
)
ABOUT = (
    "Random weights, prompts of 128 random tokens, greedy. All contenders are loaded at once and take turns, "
    "in another order each round; a turn of less than 0.3 s is repeated, up to 15 times, and its median "
    "kept. A figure is the median round, a ratio that of medians with paired rounds resampled. Weights of 8 "
    "and 4 bits are rounded to nearest, one scale for 64 columns, embedding and head too. Activations meet "
    "them in 15 bits unless a row says 8. Tokens are counted over the whole batch."
)


def run(
    out: Path,
    seed: int,
    quick: bool,
    threads: int | None,
    processor_time: bool,
    say: Callable[[str], None],
    llama: Path | None = None,
    only: Sequence[str] = (),
) -> Report:
    """Measure every shape and write engines.md; `llama` is the folder that llama.cpp was built in.

    `only`: measure these sections again (a shape's short name, `memory`, `bandwidth`, `text`), and leave the
    others alone.
    """
    program = None if llama is None else program_in(llama)
    if processor_time:
        Clock.processor, threads = True, 1
    context = Context(threads)
    torch.set_num_threads(context.threads)
    desk = Desk(context, program, seed, quick, say)
    command = "pilothouse bench engines" + " --quick" * quick + " --processor-time" * processor_time
    command += " --llama DIR" if program is not None else ""
    clock = "processor time of one thread: the machine was not quiet" if processor_time else "wall clock"
    more = (("native", f"{context.kernels}, threads: {context.threads}"), ("clock", clock))
    facts = circumstances.facts(command, seed)
    report = Report("Engines on the CPU", ABOUT, (*facts, *more))
    stamp = f"{command} {seed} {dict(facts)['date']}"
    return run_parts(report, out / "engines.md", desk.parts(), stamp, say, fresh=not only, only=only)


@dataclass(frozen=True)
class Desk:
    """What all sections share."""

    context: Context
    program: Path | None
    seed: int
    quick: bool
    say: Callable[[str], None]

    def parts(self) -> list[Part]:
        """Every section by name."""
        shapes = SHAPES[:1] if self.quick else SHAPES
        found: list[Part] = [("absent", lambda: _uncompared(self.program))]
        found += [(shape.short, partial(self.shape, shape)) for shape in shapes]
        if not Clock.processor:
            found.append(("bandwidth", lambda: self.bandwidth(shapes)))
        found += [("memory", lambda: self.memory(shapes[-1])), ("text", self.text)]
        return found

    @contextmanager
    def folder(self, shape: Shape) -> Iterator[tuple[Path, int]]:
        """A model of a shape on disk, and its number of parameters."""
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch), make_folder(shape, Path(scratch), self.seed)

    def shape(self, shape: Shape) -> Section:
        """All contenders on one shape."""
        with self.folder(shape) as (folder, parameters):
            self.say(f"{shape.name}: {parameters / 1e6:.1f} M parameters")
            threads, program = self.context.threads, self.program
            rivals = {} if program is None else llama_contenders(program, folder, threads)
            return _shape(self.context, shape, folder, parameters, self.seed, self.quick, self.say, rivals)

    def bandwidth(self, shapes: Sequence[Shape]) -> Section:
        """How near decoding one sequence comes to reading its weights once a token."""
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for shape in shapes:
            with self.folder(shape) as (folder, _):
                native = native_contenders(self.context, folder)
                for engine in (*native[:1], *native[1::2]):
                    row, goal = _limit(self.context, engine, shape)
                    rows.append(row)
                    goals += [goal] if shape is SHAPES[-1] and engine is not native[0] else []
        return Section("One sequence against the memory's bandwidth", READ, LIMITS, tuple(rows), tuple(goals))

    def memory(self, shape: Shape) -> Section:
        """What the largest shape takes."""
        with self.folder(shape) as (folder, _):
            return resident.section(shape.name, folder, judged=shape is SHAPES[-1])

    def text(self) -> Section:
        """Whether quantized weights give the dequantized ones' texts."""
        return texts.section(self.context, Family.open("starter"), 20 if self.quick else 200, self.seed)


def _shape(
    context: Context,
    shape: Shape,
    folder: Path,
    parameters: int,
    seed: int,
    quick: bool,
    say: Callable[[str], None],
    llama: Mapping[int, Llama],
) -> Section:
    native, others = native_contenders(context, folder), other_contenders(folder)
    mixed = peft_mixed(folder, 8) if shape is SHAPES[1] or quick else "it is measured at 30 M"
    rounds = 3 if quick else shape.rounds
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    for batch in (1, 8, 32):
        extra = _with_instruments(native[3], native[4], batch)
        rivals = (*llama.values(), *others)
        if batch == 8 and not isinstance(mixed, str):
            rivals = (*rivals, mixed)
        # half as many rounds of the largest batch, which takes most of the time
        found = measure(
            (*native, *extra, *rivals),
            prompts_for(shape, batch, seed),
            shape.tokens[batch],
            rounds if batch < 32 else -(-rounds // 2),
            seed,
        )
        say(f"{shape.name}, batch {batch} measured")
        reference = found[others[-1].name]
        for name, one in found.items():
            rows.append(_row(str(batch), name, one, reference, batch, seed))
        goals += _goals(shape, batch, native[3].name, found, seed)
        goals += _against_llama(shape, batch, llama, found, seed)
        if batch == 8 and not isinstance(mixed, str):
            goals += [_against_peft(shape, base.name, mixed.name, found, seed) for base in native[3:]]
    long = _reading((*native, *llama.values(), *others[:-1]), shape, seed)
    told = [f"{name} {1e3 * sorted(one.prompt)[1]:.0f} ms" for name, one in long.items()]
    goals += _against_llama(shape, 0, llama, long, seed)
    notes = [f"Reading {LONG} tokens: " + ", ".join(told)]
    if llama:
        notes.append(
            "llama.cpp's threads by batch: " + "; ".join(f"{o.name} {o.best}" for o in llama.values())
        )
    if isinstance(mixed, str):
        notes.append(f"PEFT's batch of several adapters is not here: {mixed}.")
    return Section(
        f"{shape.name}: {parameters / 1e6:.1f} M parameters",
        f"{rounds} rounds, of 32 requests half as many. The last column is against Hugging Face's `generate` "
        "in the same rounds.",
        ("batch", "engine", "tokens/s, 95 % interval", "prompt of 128, ms", "token / Hugging Face's"),
        tuple(rows),
        tuple(goals),
        notes=tuple(notes),
    )


def _with_instruments(base: Native, narrow: Native, batch: int) -> tuple[Native, ...]:
    """The same model with all instruments on every row; it, and with `narrow` activations, with adapters."""
    plan = instruments(base.model)
    found = [Native(f"{base.name}, all instruments", base.model, lambda row: (None, plan), states=1)]
    if batch <= 8:
        found += [_adapted(one, batch) for one in (base, narrow)]
    return tuple(found)


def _adapted(base: Native, batch: int) -> Native:
    each = adapters(base.model, batch)
    words = "an adapter" if batch == 1 else f"{batch} adapters"
    return Native(f"{base.name}, {words}", base.model, lambda row: (each[row], None))


def _row(size: str, name: str, one: Found, reference: Found, batch: int, seed: int) -> tuple[str, ...]:
    ratio = estimates.median_ratio(one.token, reference.token, seed)
    prompt = estimates.median([1e3 * seconds for seconds in one.prompt], seed)
    return (
        size,
        name,
        rate(one, batch, seed),
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


def _uncompared(program: Path | None) -> Section:
    absent = LLAMA if program is None else ()
    goals = tuple(
        Goal(_versus(SHAPES[at], batch, "same bits"), "at least", bound, "×", None, "not installed here")
        for at, batch, bound in absent
    )
    return Section("Who is not here", ABSENT + NO_LLAMA * (program is None), goals=goals)


def _versus(shape: Shape, batch: int, bits: str) -> str:
    what = f"batch {batch}" if batch else f"reading {LONG} tokens"
    return f"{shape.name}, {what}, {bits}: how much faster than llama.cpp"


def _against_llama(
    shape: Shape, batch: int, llama: Mapping[int, Llama], found: Mapping[str, Found], seed: int
) -> list[Goal]:
    """The engine with activations of 8 bits, as llama.cpp's are, at each number of bits."""
    goals = []
    for at, size, bound in LLAMA:
        if SHAPES[at] is not shape or size != batch:
            continue
        for bits, rival in llama.items():
            ours, theirs = found[f"native, {bits}-bit, activations of 8 bits"], found[rival.name]
            pair = (theirs.token, ours.token) if batch else (theirs.prompt, ours.prompt)
            ratio = estimates.median_ratio(*pair, seed)
            goals.append(Goal(_versus(shape, batch, f"{bits}-bit"), "at least", bound, "×", ratio))
    return goals


def _against_peft(shape: Shape, base: str, theirs: str, found: dict[str, Found], seed: int) -> Goal:
    ours = found[f"{base}, 8 adapters"].token
    ratio = estimates.median_ratio(found[theirs].token, ours, seed)
    what = f"{shape.name}: 8 requests on 8 adapters ({base}), against PEFT's mixed batch"
    return Goal(what, "at least", 20, "×", ratio)


def _reading(contenders: Sequence[Contender], shape: Shape, seed: int) -> dict[str, Found]:
    """What reading a long prompt takes, three rounds in turn."""
    prompt = prompts_for(shape, 1, seed, LONG)
    found = {one.name: Found() for one in contenders}
    for _ in range(3):
        for one in contenders:
            found[one.name].add(one.run(prompt, 1))
    return found


def _limit(context: Context, one: Native, shape: Shape) -> tuple[tuple[str, ...], Goal]:
    """A row of how near decoding comes to reading, and its goal."""
    size = one.model.weight_bytes
    prompt = [[1] * PROMPT]
    reading, tokens = [], []
    for _ in range(LIMIT_ROUNDS):
        reading.append(sorted(context.read(size, 7))[3])
        tokens.append(one.run(prompt, shape.tokens[1]).token)
    share = estimates.median_ratio(reading, tokens, 0)
    share = estimates.Estimate(100 * share.value, 100 * share.low, 100 * share.high, share.n)
    read, token = (sorted(x)[len(x) // 2] for x in (reading, tokens))
    row = (
        shape.name,
        one.name,
        f"{size / 1e6:.1f} MB",
        f"{1e3 * read:.2f} ms",
        f"{size / read / 1e9:.1f} GB/s",
        f"{1e3 * token:.2f} ms",
        f"{share.value:.0f} % [{share.low:.0f}, {share.high:.0f}]",
    )
    what = f"{shape.name}, batch 1, {one.name}: share of the measured bandwidth"
    return row, Goal(what, "at least", 90, "", share)
