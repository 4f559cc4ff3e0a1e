"""`pilothouse bench steer`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

DATA = Path("../shared/data")


def steer(
    family: Annotated[
        str,
        typer.Option("--family", "-f", metavar="NAME|DIR", help="Whose specialists entries are tried on."),
    ] = "starter",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder (else ../shared/data, if it is there).")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Of every draw; toys use it and the next ones.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed, few prompts: a trial, no result.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what the page holds already.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECTION", help="Measure only this again: CorrSteer, CRL, gate, others' models, family."
        ),
    ] = None,
) -> None:
    """Measure how steering entries are found, tuned and admitted, where the truth is known.

    Writes steer.md, steer.json and pictures. About 45 minutes of one core; stopped, it goes on where it was.
    """
    from .run import run

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found = data or (DATA if DATA.is_dir() else None)
    report = run(family, found, out, seed, quick, say, fresh, only or ())
    for goal in report.missed:
        typer.echo(f"missed: {goal.what}", err=True)
