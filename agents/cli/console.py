"""What the commands share. stdout is data, stderr is messages; nothing printed can command a terminal."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import UsageError
from ...store.printable import json_text, visible

if TYPE_CHECKING:
    from ...store.ledger import Ledger
    from ..pilot import Pilot
    from ..settings import Settings

FamilyOption = Annotated[
    str | None, typer.Option("--family", "-f", metavar="NAME|DIR", help="Family to answer with.")
]
EngineOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who runs the models: auto, native, torch, vllm.")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda.")]
SpecialistOption = Annotated[
    str | None, typer.Option("--specialist", "-s", metavar="NAME", help="Force who answers.")
]
MaxTokensOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer.")]
TemperatureOption = Annotated[float | None, typer.Option(min=0, help="0 is greedy.")]
SeedOption = Annotated[int | None, typer.Option(help="For temperatures above 0.")]
NoLogOption = Annotated[bool, typer.Option("--no-log", help="Keep nothing, neither record nor conversation.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No messages but errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_with(**flags: Any) -> Settings:
    """The settings in force, with these flags (None: not given)."""
    from ..settings import resolve

    return resolve(flags).settings


def open_pilot(settings: Settings, *, no_log: bool) -> Pilot:
    """A pilot as the settings say. Nothing is loaded yet."""
    from ...store.redact import redactor
    from ..pilot import Pilot
    from ..voyage import Limits, Unlogged

    limits = Limits(
        parts=settings.parts,
        hops=settings.hops,
        min_mean_logprob=settings.min_mean_logprob,
        prompt_characters=settings.prompt_characters,
    )
    return Pilot(
        settings.family,
        Unlogged() if no_log else None,
        engine=settings.engine,
        device=settings.device,
        cores=settings.cores,
        max_tokens=settings.max_tokens,
        limits=limits,
        keep_text=settings.keep_text,
        redact=redactor(settings.redact),
        sinks=settings.sinks,
    )


@contextmanager
def quick_start() -> Iterator[None]:
    """Keep the garbage collector out of the way while a model loads: it saves a sixth of a cold start.

    What was loaded stays for good, so later collections need not look at it either.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


def read_prompt(argument: str | None) -> str:
    """The prompt: the argument, or standard input where there is none (or it is `-`).

    Raises UsageError when there is neither, or the input is no UTF-8.
    """
    if argument is not None and argument != "-":
        return clean_argument(argument)
    if sys.stdin.isatty():
        raise UsageError('there is no prompt; write one: pilothouse ask "What is 12 + 30?"')
    return decoded(sys.stdin.buffer.read())


def decoded(data: bytes) -> str:
    """Read input as UTF-8. Raises UsageError where it is not."""
    try:
        return data.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the input is not UTF-8 (byte {data[error.start]:#04x} at {error.start}); convert it first, for "
            "example with iconv -t UTF-8"
        ) from error


def clean_argument(text: str) -> str:
    """An argument that arrived as valid UTF-8. Raises UsageError for bytes that were none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "the prompt is not UTF-8; convert it first, for example with iconv -t UTF-8"
        ) from error
    return text


def safe(text: str) -> str:
    """Text of a user or a model, with no control character that a terminal would obey."""
    return visible(text)


def write(text: str) -> None:
    """Write text to stdout at once, made safe."""
    sys.stdout.write(safe(text))
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """Write one JSON object to stdout."""
    sys.stdout.write(json_text(value) + "\n")


def colourful() -> bool:
    """Whether colours may go to stderr."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(text: str) -> None:
    """Write one message to stderr, dim on a terminal."""
    line = visible(text, keep="")
    sys.stderr.write(f"\x1b[2m{line}\x1b[0m\n" if colourful() else f"{line}\n")
    sys.stderr.flush()


def noter(quiet: bool) -> Callable[[str], None]:
    """`note`, or nothing with --quiet."""
    return (lambda text: None) if quiet else note


def tell_notes(ledger: Ledger | object, quiet: bool) -> None:
    """Tell what the log has to say: a migration, a journal other than WAL."""
    for text in getattr(ledger, "notes", ()):
        noter(quiet)(text)
