"""`pilothouse bench vllm`: in one process and in turn, the vLLM plugin against plain vLLM, and plain vLLM
against the native engine.

It runs where vLLM is installed: `make test-vllm` makes such an environment for a CPU, and there
`.venv-vllm/bin/pilothouse bench vllm` is the command.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from .. import circumstances, estimates
from ..page import Goal, Report, Section, cell
from ..resume import Part, run_parts
from .rounds import PROMPT
from .shapes import SHAPES, Shape, make_folder
from .vllm_native import Bench

SITES = (2, 5)
ABOUT = (
    "Random weights, prompts of 128 random tokens, greedy, no prefix reuse. All contenders of a section are "
    "in one process and take turns, in another order each round; a figure is the median round, a ratio that "
    "of medians with paired rounds resampled."
)
PLUGIN = (
    "The same model in bfloat16 twice: in plain vLLM, and in vLLM with the plugin, whose figures hold all "
    "that the engine does beside vLLM (rows, texts, streams; plain vLLM does not turn tokens into text). A "
    "round is prompts and answers together. The last column is throughput against plain vLLM."
)


class Contender(Protocol):
    """A vLLM with a model in it."""

    name: str

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Answer prompts with so many tokens each; return the seconds."""


@dataclass(eq=False)
class Plain:
    """vLLM's own engine, driven as vLLM's `LLM.generate` drives it."""

    name: str
    engine: Any
    suffix: tuple[int, ...]
    asked: int = 0

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        begun = time.perf_counter()
        for prompt in prompts:
            self.asked += 1
            params = SamplingParams(
                temperature=0.0,
                max_tokens=tokens,
                ignore_eos=True,
                detokenize=False,
                logprobs=0,
                output_kind=RequestOutputKind.DELTA,
                skip_reading_prefix_cache=True,
            )
            given = {"type": "token", "prompt_token_ids": [*prompt, *self.suffix]}
            self.engine.add_request(str(self.asked), given, params)
        made = 0
        while self.engine.has_unfinished_requests():
            made += sum(len(output.outputs[0].token_ids) for output in self.engine.step())
        assert made == tokens * len(prompts), (made, tokens)
        return time.perf_counter() - begun


@dataclass(eq=False)
class Steered:
    """The plugin's batch; `asks` makes a request's instruments from its number."""

    name: str
    batch: Any
    asks: Callable[[int], dict[str, Any]] = lambda at: {}

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        from ...specialists.engines.base import Request, Sampling
        from ...specialists.engines.stream import Stream

        begun = time.perf_counter()
        rows = []
        for at, prompt in enumerate(prompts):
            request = Request(
                tuple(prompt), "trunk", Sampling(max_tokens=tokens), reuse=False, **self.asks(at)
            )
            rows.append(self.batch.open(request, Stream(request)))
        while not all(row.stream.over for row in rows):
            self.batch.step(rows)
        for row in rows:
            self.batch.shut(row)
        spent = time.perf_counter() - begun
        assert all(len(list(row.stream)) == tokens for row in rows)
        return spent


def run(
    out: Path,
    seed: int,
    eager: bool,
    quick: bool,
    say: Callable[[str], None],
    only: Sequence[str] = (),
) -> Report:
    """Measure every shape and write vllm.md; raises NotOffered where vLLM is not installed or not known.

    `only`: measure these sections again (a shape's short name, `native`), and leave the others alone.
    """
    from ...specialists.engines.base import NotOffered
    from ...specialists.engines.vllm.versions import installed, why_not

    reason = why_not()
    if reason is not None:
        raise NotOffered(f"this benchmark runs vLLM: {reason}")
    shapes = SHAPES[:1] if quick else SHAPES[1:]
    parts: list[Part] = [(one.short, partial(_shape, one, seed, eager, quick, say)) for one in shapes]
    parts.append(("native", partial(_native, shapes[-1], seed, eager, quick, say)))
    command = "pilothouse bench vllm" + " --eager" * eager + " --quick" * quick
    facts = circumstances.facts(command, seed)
    more = (("vllm", str(installed())), ("preloaded", circumstances.preloaded()))
    report = Report("The vLLM plugin, and vLLM itself", ABOUT, (*facts, *more))
    stamp = f"{command} {seed} {dict(facts)['date']}"
    return run_parts(report, out / "vllm.md", parts, stamp, say, fresh=not only, only=only)


def _native(shape: Shape, seed: int, eager: bool, quick: bool, say: Callable[[str], None]) -> Section:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        make_folder(shape, folder, seed)
        bench = Bench(shape, folder, seed, eager, say, Path(scratch))
        return bench.section(rounds=3 if quick else 2 * shape.rounds - 1)


def _shape(shape: Shape, seed: int, eager: bool, quick: bool, say: Callable[[str], None]) -> Section:
    rounds = 3 if quick else 2 * shape.rounds - 1
    rows: list[tuple[str, ...]] = []
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parameters = make_folder(shape, folder, seed)
        say(f"{shape.name}: {parameters / 1e6:.1f} M parameters")
        contenders, close = open_all(folder, eager)
        for batch in (1, 8, 32):
            found = _measure(contenders, shape, batch, rounds, seed)
            say(f"{shape.name}, batch {batch} measured")
            rows += [_row(batch, shape, name, found, contenders[0].name, seed) for name in found]
            goals += _goals(shape, batch, found, seed)
        close()
    how = "layer by layer (`enforce_eager`)" if eager else "compiled"
    header = ("batch", "engine", "tokens/s, 95 % interval", "against plain vLLM")
    title = f"{shape.name}: {parameters / 1e6:.1f} M parameters, the plugin against plain vLLM"
    return Section(title, f"{PLUGIN} {rounds} rounds, {how}.", header, tuple(rows), tuple(goals))


def open_all(folder: Path, eager: bool) -> tuple[list[Contender], Callable[[], None]]:
    """Plain vLLM, and the plugin: idle, steering half the requests, and with everything on every request."""
    from ...specialists.engines.base import Capacity
    from ...specialists.engines.vllm.batch import VllmBatch
    from ...specialists.engines.vllm.host import Host, Options
    from ...specialists.engines.vllm.sites import Settings
    from ...specialists.family import Family
    from ...specialists.tokenizing import ChatCodec

    capacity, options = Capacity(rows=32, chunk=2048), Options("bfloat16", compiled=not eager)
    host = Host(folder, {}, capacity, Settings(SITES, vectors=64, rounds=1, gates=64), options)
    codec = ChatCodec.load(Family.open().trunk_folder)
    codec.stops = frozenset()
    batch = VllmBatch(codec, host, capacity)
    plain = Host(folder, {}, capacity, None, options)
    instruments = Instruments(host.width)
    contenders: list[Contender] = [
        Plain("plain vLLM", plain.engine, codec.invocation),
        Steered("plugin, idle", batch),
        Steered("plugin, half steered", batch, lambda at: instruments.steering(at) if at % 2 == 0 else {}),
        Steered("plugin, all instruments", batch, instruments.everything),
    ]

    def close() -> None:
        host.close()
        plain.close()

    return contenders, close


class Instruments:
    """What requests ask for: two vectors each, one of them gated; and two taps and sixteen heads."""

    def __init__(self, width: int) -> None:
        import torch

        from ...router.steer.vector import Gate, SteeringVector
        from ...specialists.engines.base import Head

        draw = torch.Generator().manual_seed(2)

        def direction() -> torch.Tensor:
            return torch.randn(width, generator=draw) * 0.01

        first, last = SITES
        self.vectors = [
            (
                SteeringVector(f"a{at}", "add", first, 1.0, "both", direction()),
                SteeringVector(
                    f"b{at}", "add", last, 1.0, "both", direction(), gate=Gate(first, direction())
                ),
            )
            for at in range(32)
        ]
        self.heads = tuple(Head(f"h{at}", SITES[at % 2], direction()) for at in range(16))

    def steering(self, at: int) -> dict[str, Any]:
        """Vectors of this request's own."""
        return {"vectors": self.vectors[at]}

    def everything(self, at: int) -> dict[str, Any]:
        """Vectors of its own, taps at both layers, and the heads."""
        return {"vectors": self.vectors[at], "taps": SITES, "heads": self.heads}


def _measure(
    contenders: Sequence[Contender], shape: Shape, batch: int, rounds: int, seed: int
) -> dict[str, list[float]]:
    order, draw = list(contenders), random.Random(seed)
    vocabulary = shape.config["vocab_size"]
    found: dict[str, list[float]] = {one.name: [] for one in contenders}
    for turn in range(rounds + 1):  # the first is a warm-up
        draw.shuffle(order)
        prompts = [[draw.randrange(vocabulary) for _ in range(PROMPT)] for _ in range(batch)]
        for one in order:
            seconds = one.run(prompts, 2 * shape.tokens[batch])
            if turn:
                found[one.name].append(seconds)
    return found


def _row(
    batch: int, shape: Shape, name: str, found: dict[str, list[float]], plain: str, seed: int
) -> tuple[str, ...]:
    tokens = 2 * shape.tokens[batch] * batch
    rate = estimates.median([tokens / seconds for seconds in found[name]], seed)
    ratio = estimates.median_ratio(found[plain], found[name], seed)
    return str(batch), name, f"{rate.value:.0f} [{rate.low:.0f}, {rate.high:.0f}]", cell(ratio, "×")


def _goals(shape: Shape, batch: int, found: dict[str, list[float]], seed: int) -> list[Goal]:
    at = f"{shape.name}, batch {batch}"
    half = estimates.median_ratio(found["plain vLLM"], found["plugin, half steered"], seed)
    full = estimates.median_ratio(found["plugin, all instruments"], found["plugin, idle"], seed)
    return [
        Goal(f"{at}: plugin, half steered, against plain vLLM", "at least", 0.97, "×", half),
        Goal(f"{at}: taps, 16 probes, gate and steering on every row, time", "at most", 1.03, "×", full),
    ]
