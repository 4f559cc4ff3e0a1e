"""`pilothouse bench overhead`: what taps, probes, gates, steering, adapters and routing add to an answer."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..specialists.engines.base import BatchEngine, Request
    from ..specialists.family import Family
    from .page import Goal, Report, Section

TOKENS, HEADS = 32, 16
# How much slower the instruments may make each engine.
MOST = {"native": 1.03, "torch": 1.10}
PROMPT = "Tell me a story about a pilot who steers a small boat down the river and meets a talking fish. "
ABOUT = (
    "Both engines on one thread. Contenders take turns, in another order each round; a figure is the "
    "median round, a ratio that of medians with paired rounds resampled. Times are CPU time of the whole "
    "process, which other programs disturb less than the wall clock. Answers are drawn at temperature 1, "
    f"{TOKENS} tokens or their end, where nothing else is said."
)
Contender = Callable[[], float]


def overhead(
    family: Annotated[str, typer.Option("--family", "-f", metavar="NAME|DIR")] = "starter",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Of directions, answers and resamples.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="3 rounds, no batch of 32: a trial.")] = False,
) -> None:
    """Measure what instruments, adapters and routing add to the answers of both CPU engines.

    Writes overhead.md.
    """
    from ..specialists.family import Family

    report = run(Family.open(family), out, seed, quick)
    print(f"wrote {out / 'overhead.md'}", file=sys.stderr)
    for goal in report.missed:
        print(f"missed: {goal.what}", file=sys.stderr)


def run(family: Family, out: Path, seed: int, quick: bool) -> Report:
    """Measure a family and write overhead.md; a family without probes has no section on routing."""
    from ..specialists.engines.base import Capacity
    from ..specialists.engines.choose import open_engine
    from .circumstances import facts
    from .page import Report

    sections = []
    for name in MOST:
        engine = open_engine(family, name, "cpu", 1, capacity=Capacity(rows=32))
        try:
            bench = _Bench(family, engine, name, 3 if quick else 15, seed)
            sections += [bench.instruments((1, 8) if quick else (1, 8, 32)), bench.adapters()]
            if family.bank is not None:
                sections.append(bench.routing())
            if name == "native":
                sections.append(bench.steps())
        finally:
            engine.close()
    header = facts("pilothouse bench overhead" + (" --quick" if quick else ""), seed)
    report = Report("What instruments, adapters and routing cost", ABOUT, header, tuple(sections))
    out.mkdir(parents=True, exist_ok=True)
    (out / "overhead.md").write_text(report.markdown(), encoding="utf-8")
    return report


class _Bench:
    """The contenders over one engine."""

    def __init__(self, family: Family, engine: BatchEngine, name: str, rounds: int, seed: int) -> None:
        from ..store.records import Message

        self.family, self.engine, self.name = family, engine, name
        self.rounds, self.seed = rounds, seed
        self.tokens = engine.encode_chat([Message(role="user", content=PROMPT * 4)])
        self.adapted = [name for name, card in family.cards.items() if card.kind == "adapter"]

    def request(self, specialist: str, seed: int, prefill: object = None) -> Request:
        """A bare request."""
        from ..specialists.engines.base import Request, Sampling

        return Request(self.tokens, specialist, Sampling(1.0, TOKENS, seed), prefill=prefill)  # type: ignore[arg-type]

    def dressed(self, request: Request) -> Request:
        """The request with a tap, 16 probes, a gate and steering at one layer of the middle.

        The steering is too weak to be heard, so that both contenders draw the same answers.
        """
        import torch

        from ..router.steer.vector import Gate, SteeringVector
        from ..specialists.engines.base import Head

        generator = torch.Generator().manual_seed(self.seed)
        config = self.engine.trunk.config  # type: ignore[attr-defined]
        layer = config.num_hidden_layers // 2

        def direction() -> torch.Tensor:
            return torch.randn(config.hidden_size, generator=generator)

        gate = Gate(layer, direction())
        mark = self.family.trunk_fingerprint
        vector = SteeringVector(
            "v", "add", layer, 1e-12, "generation", direction(), gate=gate, fingerprint=mark
        )
        heads = tuple(Head(f"h{i}", layer, direction()) for i in range(HEADS))
        return replace(request, vectors=(vector,), taps=(layer,), heads=heads)

    def answer(self, requests: Sequence[Request]) -> float:
        """CPU seconds a token of requests answered in one batch."""
        begun = time.process_time()
        count = sum(1 for stream in self.engine.submit_all(requests, wait=None) for _ in stream)
        return (time.process_time() - begun) / count

    def turns(self, contenders: dict[str, Contender]) -> dict[str, list[float]]:
        """Milliseconds of every round; the first round warms up and is not kept."""
        rng, found = random.Random(self.seed), {name: list[float]() for name in contenders}
        for turn in range(self.rounds + 1):
            for name in rng.sample(list(contenders), len(contenders)):
                spent = 1e3 * contenders[name]()
                if turn:
                    found[name].append(spent)
        return found

    def instruments(self, sizes: Sequence[int]) -> Section:
        """Every request with taps, probes, gate and steering, against none."""
        from .page import Section

        prefill = self.engine.probe(self.tokens)
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for size in sizes:
            names = [self.adapted[i % len(self.adapted)] for i in range(size)]
            bare = [self.request(name, i, prefill) for i, name in enumerate(names)]
            dressed = [self.dressed(request) for request in bare]
            found = self.turns({"off": partial(self.answer, bare), "on": partial(self.answer, dressed)})
            what = f"{self.name}, batch {size}, {len(set(names))} adapters"
            row, goal = _row(what, found, "on", "off", MOST[self.name], self.seed)
            rows.append(row)
            goals.append(goal)
        return Section(
            f"{self.name}: taps, 16 probes, gate and steering on every request",
            "Against the same requests without; CPU milliseconds a token.",
            ("requests", "off", "on", "on / off"),
            tuple(rows),
            tuple(goals),
        )

    def adapters(self) -> Section:
        """Eight requests on as many adapters as there are, against eight on one, and against one alone."""
        from .page import Section

        prefill = self.engine.probe(self.tokens)
        same = [self.request(self.adapted[0], i, prefill) for i in range(8)]
        mixed = [self.request(self.adapted[i % len(self.adapted)], i, prefill) for i in range(8)]
        kinds = {"alone": same[:1], "same": same, "mixed": mixed}
        found = self.turns({name: partial(self.answer, requests) for name, requests in kinds.items()})
        many = len({request.specialist for request in mixed})
        pairs = (
            (f"8 on {many} adapters, against 8 on one", "mixed", "same"),
            ("8 on one, against 1 alone", "same", "alone"),
        )
        rows = tuple(_row(what, found, ours, theirs, 1.0, self.seed)[0] for what, ours, theirs in pairs)
        return Section(
            f"{self.name}: a batch of eight",
            "CPU milliseconds a token.",
            ("what", "theirs", "ours", "ours / theirs"),
            rows,
        )

    def routing(self) -> Section:
        """Read, probe, decide and answer, against read and answer in one request."""
        from ..router.policy import Policy
        from ..router.scout import Scout
        from .page import Section

        assert self.family.bank is not None
        scout = Scout(self.family.bank, self.family.policy or Policy())

        def whole(routed: bool) -> float:
            self.engine._batch.prefixes.clear()  # type: ignore[attr-defined]  # nobody read the prompt before
            begun, prefill = time.process_time(), None
            if routed:
                prefill = self.engine.probe(self.tokens, scout.layers)
                reading = scout.read(prefill.states)
                scout.policy.decide(reading.p_correct, reading.readings, rng=random.Random(0))
            for _ in self.engine.submit(self.request(self.adapted[-1], 1, prefill), wait=None):
                pass
            return time.process_time() - begun

        found = self.turns({"direct": lambda: whole(False), "routed": lambda: whole(True)})
        row, goal = _row(f"{self.name}, {TOKENS} tokens", found, "routed", "direct", 1.05, self.seed)
        return Section(
            f"{self.name}: route and answer",
            "One adapter's answer with the scout's probes and the policy's decision, against the same answer "
            "without, its prompt read by the same request; CPU milliseconds in all. Each time the prompt is "
            "read anew.",
            ("answer", "direct", "routed", "routed / direct"),
            (row,),
            (goal,),
        )

    def steps(self) -> Section:
        """The likeliest tokens drawn several in one call of the native engine, against one call a token."""
        from ..specialists.engines.native import batch
        from .page import Section

        prefill, rows = self.engine.probe(self.tokens), []
        for size in (1, 8):
            bare = [self.request(self.adapted[i % len(self.adapted)], i, prefill) for i in range(size)]
            greedy = [replace(one, sampling=replace(one.sampling, temperature=0.0)) for one in bare]

            def drawn(most: int, requests: Sequence[Request] = greedy) -> float:
                usual, batch.MOST = batch.MOST, most
                try:
                    return self.answer(requests)
                finally:
                    batch.MOST = usual

            found = self.turns({"one": partial(drawn, 1), "several": partial(drawn, batch.MOST)})
            rows.append(_row(f"batch {size}", found, "several", "one", 1.0, self.seed)[0])
        return Section(
            f"{self.name}: several tokens in one call",
            f"The likeliest token each time, up to {batch.MOST} of them in one call (`ph_steps`), against "
            "one call a token; the same answers. CPU milliseconds a token.",
            ("requests", "one", "several", "several / one"),
            tuple(rows),
        )


def _row(
    what: str, found: dict[str, list[float]], ours: str, theirs: str, bound: float, seed: int
) -> tuple[tuple[str, ...], Goal]:
    """A table row `what, theirs, ours, ratio`, and the goal that the ratio stays below `bound`."""
    from . import estimates
    from .page import Goal, cell

    ratio = estimates.median_ratio(found[ours], found[theirs], seed)
    both = [cell(estimates.median(found[name], seed), "ms") for name in (theirs, ours)]
    goal = Goal(f"{what}: {ours} against {theirs}", "at most", bound, "×", ratio)
    return (what, *both, cell(ratio, "×")), goal
