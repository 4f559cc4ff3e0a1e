"""`pilothouse build`: from a recipe to a finished, measured, registered specialist."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...store.printable import visible
from . import console
from .console import JsonOption, QuietOption

if TYPE_CHECKING:
    from ...specialists.improve.recipe import Whole

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@app.command()
def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="See docs/build.md.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the estimate, do nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on within an interrupted step, from its last checkpoint.")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run (else runs/NAME).")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a specialist as a recipe says. Finished steps are never done twice.

    Prints the results card; progress goes to stderr and to the run's log.
    """
    from ...specialists.improve.build import build as run
    from ...specialists.improve.crew import end, part, rank
    from ...specialists.improve.recipe import Recipe, plan
    from ...specialists.improve.sizes import measured_speed

    read = Recipe.read(recipe)
    whole = plan(read, recipe.resolve().parent, measured_speed())
    speaks = rank() == 0
    note = console.noter(quiet or not speaks)
    for line in _estimate(whole):
        (typer.echo if dry_run and speaks and not as_json else note)(visible(line, keep=""))
    if dry_run:
        if as_json and speaks:
            console.print_json(_planned(whole))
        return
    folder = work or Path("runs") / read.name
    card = run(whole, folder, resume, None if quiet else sys.stderr)
    part()
    if not speaks:
        end()
        return
    if as_json:
        console.print_json(card)
    else:
        typer.echo(visible((folder / "card.md").read_text(encoding="utf-8").rstrip()))


def _planned(whole: Whole) -> dict[str, object]:
    steps = [
        {
            "name": s.name,
            "step": s.kind.name,
            "from": list(s.inputs),
            "form": s.form,
            "seconds": round(s.estimate.seconds, 1),
            "memory": s.estimate.memory,
            "disk": s.estimate.disk,
        }
        for s in whole.steps
    ]
    rows = {n: {"rows": len(d.rows), "licence": d.licence, "source": d.source} for n, d in whole.data.items()}
    return {"recipe": whole.recipe.name, "seed": whole.recipe.seed, "data": rows, "steps": steps}


def _estimate(whole: Whole) -> list[str]:
    from ...specialists.improve.build import clock
    from ...specialists.improve.sizes import loaded

    base = loaded()
    lines = [f"data {n}: {len(d.rows):,} rows, {d.licence}, {d.source}" for n, d in whole.data.items()]
    lines += list(whole.notes)
    for s in whole.steps:
        cost = s.estimate
        lines.append(
            f"{s.name:<14} {s.kind.name:<9} from {', '.join(s.inputs):<24} {clock(cost.seconds):>7} "
            f"{(cost.memory + base) / 1e6:7,.0f} MB memory {cost.disk / 1e6:6,.1f} MB disk"
        )
    most = max(s.estimate.memory for s in whole.steps) + base
    return [*lines, f"in all about {clock(whole.seconds)}, {most / 1e6:,.0f} MB of memory at most"]
