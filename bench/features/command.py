"""`pilothouse bench features`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def features(
    family: Annotated[
        str, typer.Option("--family", "-f", metavar="NAME|DIR", help="Whose trunk is the trained model.")
    ] = "starter",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Of every draw; this one and the next ones.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, few steps: a trial, no result.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what an earlier run left in features.json.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="SECTION", help="Measure this section again, not the others.")
    ] = None,
) -> None:
    """Measure dictionaries where the truth is known: trainers, loaders, evaluation, labels.

    Writes features.md, features.json and a dashboard. A run that was stopped goes on where it was.
    """
    from .run import run

    report = run(family, out, seed, quick, _say, fresh, only or ())
    for goal in report.missed:
        typer.echo(f"missed: {goal.what}", err=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
