"""`pilothouse ask`: answer one prompt and leave."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from ...store.errors import InterruptedByUser
from . import console
from .console import (
    DeviceOption,
    EngineOption,
    FamilyOption,
    JsonOption,
    MaxTokensOption,
    NoLogOption,
    QuietOption,
    SeedOption,
    SpecialistOption,
    TemperatureOption,
)

if TYPE_CHECKING:
    from ..answer import Answer, Restart

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@app.command()
def ask(
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="Without it, or as -, standard input is read.")
    ] = None,
    as_json: JsonOption = False,
    specialist: SpecialistOption = None,
    thread: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with (or begin) this conversation.")
    ] = None,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the answer when it is whole.")
    ] = False,
    no_log: NoLogOption = False,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    family: FamilyOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
) -> None:
    """Answer one prompt and leave.

    On a terminal the answer streams; elsewhere only checked text is printed. The row is on disk
    before the last piece is printed.
    """
    settings = console.settings_with(
        max_tokens=max_tokens, temperature=temperature, seed=seed, family=family, engine=engine, device=device
    )
    text = console.read_prompt(prompt)
    try:
        with console.open_pilot(settings, no_log=no_log) as pilot:
            with console.quick_start():
                pilot.warm()
            stream = pilot.stream(
                text,
                thread,
                specialist,
                temperature=settings.temperature,
                seed=settings.seed,
                settled=not sys.stdout.isatty(),
            )
            with closing(stream):  # type: ignore[type-var]
                answer = _silently(stream) if as_json or no_stream else _aloud(stream)
            console.tell_notes(pilot.ship.log, quiet)
    except KeyboardInterrupt:
        raise InterruptedByUser("stopped; the record says aborted") from None
    if as_json:
        console.print_json(answer.model_dump(mode="json"))
    elif no_stream:
        console.write(f"{answer.text}\n")
    if sys.stderr.isatty() and not as_json:
        console.noter(quiet)(summary(answer))


def _silently(stream: Iterator[str | Restart | Answer]) -> Answer:
    from ..answer import Answer

    return next(item for item in stream if isinstance(item, Answer))


def _aloud(stream: Iterator[str | Restart | Answer]) -> Answer:
    """Print pieces as they come; say on stderr when some are withdrawn."""
    from ..answer import Answer

    for item in stream:
        if isinstance(item, str):
            console.write(item)
        elif isinstance(item, Answer):
            console.write("\n")
            return item
        else:
            console.write("\n")
            console.note(f"(withdrawn: {item.reason})")
    raise AssertionError("a stream ends with its answer")


def summary(answer: Answer) -> str:
    """One line about an answer: who, how sure, how long, and how to ask why."""
    who = answer.specialist or "nobody"
    sure = f" · P(correct) {answer.p_correct:.2f}" if answer.p_correct is not None else ""
    steered = f" · steered by {', '.join(e['name'] for e in answer.steering)}" if answer.steering else ""
    why = f" · pilothouse why {answer.record_id[-8:]}" if answer.record_id else ""
    return f"{who}{sure}{steered} · {answer.timings.total_ms:.0f} ms{why}"
