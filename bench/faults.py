"""Kill the program at random moments, many times, and count what was lost: nothing may be.

Each round starts `pilothouse chat` on a pipe, lets it answer, and kills it with SIGKILL after a random time
(during the start-up in some rounds). Afterwards the log must verify, every answer that was printed must
have its row, and no record may stay open.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ..store.errors import VerifyError
from ..store.printable import json_text
from .circumstances import facts

PROMPTS = ("What is 12 + 30?", "What is the plural of mouse?", "What is the capital of France?", "Hello")
# the code under test is this checkout's, whatever is installed
CHAT = f"from {__package__.rpartition('.')[0]}.agents.cli.main import main; main()"


class Result(NamedTuple):
    """What the rounds left behind. `lost` are printed answers without a row."""

    kills: int
    printed: int
    completed: int
    aborted: int
    open: int
    lost: list[str]
    chain: str


def faults(
    kills: Annotated[int, typer.Option(min=1, help="How many processes to kill.")] = 50,
    seed: Annotated[int, typer.Option(help="For the moments and prompts.")] = 0,
    family: Annotated[str | None, typer.Option("--family", "-f", metavar="NAME|DIR")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the page goes.")] = Path("docs/results"),
    quick: Annotated[bool, typer.Option("--quick", help="3 kills: a trial, no result.")] = False,
) -> None:
    """Kill the program at random moments and count what was lost; leaves with 4 when anything was.

    Writes faults.md.
    """
    kills = min(kills, 3) if quick else kills
    with tempfile.TemporaryDirectory(prefix="pilothouse-faults-") as home:
        result = run(Path(home), kills, seed, family)
    typer.echo(json_text(result._asdict(), indent=1))
    write_page(out / "faults.md", result, kills, seed)
    if result.lost or result.open or result.chain != "ok":
        raise VerifyError(
            f"{len(result.lost)} answers lost, {result.open} records open, chain {result.chain}"
        )


def write_page(path: Path, result: Result, kills: int, seed: int) -> None:
    """Write what the kills left behind as a page of results."""
    from .page import table  # brings numpy

    found = {
        "processes killed (SIGKILL)": result.kills,
        "answers printed before a kill": result.printed,
        "records completed": result.completed,
        "records closed as aborted": result.aborted,
        "records left open (target 0)": result.open,
        "printed answers without a row (target 0)": len(result.lost),
        "hash chain": result.chain,
    }
    header = facts(f"pilothouse bench faults --kills {kills} --seed {seed}", seed)
    body = table(("what", "value"), [(name, str(value)) for name, value in found.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# Sudden death\n\n{table(('', ''), header)}\n\n{body}\n", encoding="utf-8")


def run(home: Path, kills: int, seed: int, family: str | None) -> Result:
    """Kill `kills` processes that share the log in `home`, then compare what was printed with the log."""
    rng, printed = random.Random(seed), Counter[str]()
    environment = {**os.environ, "PILOTHOUSE_HOME": str(home)}
    if family is not None:
        environment["PILOTHOUSE_FAMILY"] = family
    for count in range(kills):
        begun = time.monotonic()
        printed.update(one_round(rng, environment, wait=count % 5 != 0))
        typer.echo(f"kill {count + 1}/{kills} after {time.monotonic() - begun:.1f} s", err=True)
    return compared(home, kills, printed)


def one_round(rng: random.Random, environment: dict[str, str], wait: bool) -> list[str]:
    """Start, feed and kill one process; return the answers that it printed whole.

    Every answer is followed by a line of its own (`/new` replies), so a cut answer is not taken for a whole
    one.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", CHAT, "chat", "--quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("".join(f"{rng.choice(PROMPTS)}\n/new\n" for _ in range(300)).encode())
        process.stdin.flush()
    head = process.stdout.readline() if wait else b""  # from the first line on, it is busy answering
    time.sleep(rng.random() * (1.0 if wait else 3.0))
    process.kill()
    text = (head + process.stdout.read()).decode(errors="replace")
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait()
    return whole_answers(text)


def whole_answers(text: str) -> list[str]:
    """The answers in a chat's output, each ended by the reply to `/new`; what follows the last one is cut."""
    found: list[str] = []
    lines: list[str] = []
    for line in text.split("\n")[:-1]:
        if line.startswith("new conversation "):
            found.append("\n".join(lines))
            lines = []
        else:
            lines.append(line)
    return found


def compared(home: Path, kills: int, printed: Counter[str]) -> Result:
    """Recover the log as the next start would, verify it, and look every printed answer up."""
    from ..store.audit import Audit
    from ..store.ledger import Ledger

    place = home / "data" / "log.db"
    Ledger.open(place).close()
    with Audit.open(place) as audit:
        verified = audit.verify()
        pages = list(audit.pages())
    rows = Counter(page.answer or "" for page in pages if page.record.status in ("completed", "abstained"))
    states = Counter(page.record.status for page in pages)
    return Result(
        kills=kills,
        printed=printed.total(),
        completed=states["completed"] + states["abstained"],
        aborted=states["aborted"],
        open=states["in_progress"],
        lost=sorted((printed - rows).elements()),
        chain="ok" if verified.broken is None else verified.broken.reason,
    )
