"""`pilothouse bench service`. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..page import Report, Section

ABOUT = (
    "What the HTTP service and its log cost, how they last at saturation, what they lose when something is "
    "killed, full or gone, and whether recorded decisions can be made again. Beside this page: log.md "
    "(durable writes), audit.md (pages at a million records), service-fuzz.md (hostile input), faults.md "
    "(the command line killed)."
)
MEASURED = ("agents", "store", "bench/service")


def service(
    clients: Annotated[int, typer.Option(min=1, help="How many ask at once.")] = 16,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long an arm runs in a round.")] = 12.0,
    rounds: Annotated[int, typer.Option(min=1, help="How often each arm runs.")] = 4,
    soak: Annotated[float, typer.Option(min=1, help="Seconds at saturation.")] = 1800.0,
    kills: Annotated[int, typer.Option(min=1, help="How often the service is killed.")] = 100,
    replays: Annotated[int, typer.Option(min=1, help="Recorded decisions to make again.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of prompts, orders and moments.")] = 0,
    family: Annotated[str, typer.Option("--family", "-f", metavar="NAME|DIR")] = "starter",
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SECTION", help="overhead, soak, faults or replay; may repeat. Else all."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is measured.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    quick: Annotated[bool, typer.Option("--quick", help="Seconds of each: a trial, no result.")] = False,
) -> None:
    """Measure the service: overhead, a soak, faults, replay. Writes service.md.

    A run that was stopped goes on from the sections it has.
    """
    if quick:
        seconds, rounds, soak, kills, replays = 2.0, 1, 10.0, 2, 20
    report = run(clients, seconds, rounds, soak, kills, replays, seed, family, only or [], fresh, out, quick)
    for goal in report.missed:
        typer.echo(f"missed: {goal.what}", err=True)


def run(
    clients: int,
    seconds: float,
    rounds: int,
    soak: float,
    kills: int,
    replays: int,
    seed: int,
    family: str,
    only: list[str],
    fresh: bool,
    out: Path,
    quick: bool,
) -> Report:
    """Measure the sections and write the page."""
    from .. import resume
    from ..circumstances import facts
    from ..page import Report
    from . import breaking, overhead, replaying, soaking

    def at_home(work: Callable[[Path], Section]) -> Callable[[], Section]:
        def measured() -> Section:
            with tempfile.TemporaryDirectory(prefix="pilothouse-service-") as home:
                return work(Path(home))

        return measured

    parts: list[resume.Part] = [
        ("overhead", at_home(lambda home: overhead.section(home, family, clients, seconds, rounds, seed))),
        ("soak", at_home(lambda home: soaking.section(home, family, clients, soak, seed))),
        ("faults", at_home(lambda home: breaking.section(home, family, kills, seed, say))),
        ("replay", at_home(lambda home: replaying.section(home, family, replays, seed))),
    ]
    command = (
        f"pilothouse bench service --clients {clients} --seconds {seconds:g} --rounds {rounds} "
        f"--soak {soak:g} --kills {kills} --replays {replays} --seed {seed}"
    )
    stamp = f"{command} {resume.digest(MEASURED)}"
    report = Report("The service", ABOUT, facts(command, seed))
    name = "service-quick.md" if quick and out == Path("docs/results") else "service.md"
    return resume.run_parts(report, out / name, parts, stamp, say, fresh, only)


def say(line: str) -> None:
    """Tell progress on stderr."""
    print(line, file=sys.stderr, flush=True)
