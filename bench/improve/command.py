"""`pilothouse bench improve`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def improve(
    section: Annotated[
        list[str] | None, typer.Option("--section", metavar="NAME", help="Only this one; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    work: Annotated[
        Path, typer.Option(metavar="DIR", help="Keeps finished trials; a killed run goes on from there.")
    ] = Path("runs/bench-improve"),
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, few steps: a trial, no result.")] = False,
    before: Annotated[
        Path | None,
        typer.Option(metavar="FAMILY", help="An earlier starter family, for the section starter."),
    ] = None,
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder of sources, for the section starter.")
    ] = Path("../shared/data"),
) -> None:
    """Measure the steps of `pilothouse build` against baselines and controls. Writes improve.md and .json."""
    from .run import run

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    report = run(section or [], out, work, seed, seeds, quick, say, before, data)
    for goal in report.missed:
        typer.echo(f"missed: {goal.what}", err=True)
