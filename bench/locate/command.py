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
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what an earlier run left in locate.json.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="SECTION", help="Measure this section again, not the others.")
    ] = None,
) -> None:
    """Measure the methods of `pilothouse locate` where the truth is known, with their controls.

    Writes locate.md, locate.json and pictures. A run that was stopped goes on where it was.
    """
    from .run import run

    report = run(family, data, out, seed, quick, _say, fresh, only or ())
    for goal in report.missed:
        typer.echo(f"missed: {goal.what}", err=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
