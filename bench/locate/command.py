"""`pilothouse bench locate`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def locate(
    family: Annotated[
        str, typer.Option("--family", "-f", metavar="NAME|DIR", help="Whose trunk is the trained model.")
    ] = "starter",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder (else ../shared/data, if it is there).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Of every draw; planted models use it and the next ones.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, few prompts: a trial, no result.")
    ] = False,
) -> None:
    """Measure the methods of `pilothouse locate` where the truth is known, with their controls.

    Writes locate.md and its pictures.
    """
    from .run import run

    report = run(family, data, out, seed, quick, say=lambda line: print(line, file=sys.stderr, flush=True))
    for goal in report.missed:
        typer.echo(f"missed: {goal.what}", err=True)
