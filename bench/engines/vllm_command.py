"""`pilothouse bench vllm`: what the command line takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def vllm(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    seed: Annotated[int, typer.Option(help="Of weights, prompts and resamples.")] = 0,
    eager: Annotated[bool, typer.Option("--eager", help="Layer by layer, not compiled.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The smallest shape, 3 rounds: a trial, no result.")
    ] = False,
) -> None:
    """Measure the vLLM plugin against plain vLLM, steering half the requests. Writes vllm.md and .json."""
    from .vllm import run

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    report = run(out, seed, eager, quick, say)
    say(f"wrote {out / 'vllm.md'}")
    for goal in report.missed:
        say(f"missed: {goal.what}")
