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
    only: Annotated[
        str, typer.Option(metavar="A,B,…", help="Measure these sections again, and leave the others.")
    ] = "",
) -> None:
    """Measure the vLLM plugin against plain vLLM, and plain vLLM against native. Writes vllm.md and .json.

    Sections: 30M and 0.5B (the plugin, steering half the requests), native (0.5 B, a batch of 8: bf16, 8 and
    4 bits, and 8 adapters).
    """
    from .vllm import run

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    names = [name.strip() for name in only.split(",") if name.strip()]
    report = run(out, seed, eager, quick, say, names)
    for goal in report.missed:
        say(f"missed: {goal.what}")
