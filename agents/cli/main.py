"""The `pilothouse` command: a table of sub-commands, each imported only when it is called."""

import gc
import sys
from importlib import import_module, metadata
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from ...store.errors import PilothouseError
from ...store.printable import visible

# The codes are those of `store/errors.py`; a test compares.
EXIT_CODES = (
    "Exit codes: 0 done (an abstention is an answer), 1 failed, 2 wrong use, 3 not found, 4 the log was "
    "changed outside this program, 5 the log cannot be opened or written, 6 an artifact is missing, damaged "
    "or made for another model, 130 interrupted."
)


class Entry(NamedTuple):
    """Where a sub-command lives, and the line that `pilothouse --help` shows for it."""

    module: str
    help: str


# Every module has an `app: typer.Typer`; one with several commands, or that may grow them, has a callback.
COMMANDS: dict[str, Entry] = {
    "chat": Entry("chat", "Chat with the family; each answer is routed, steered and logged."),
    "ask": Entry("ask", "Answer one prompt and leave."),
    "why": Entry("why", "Explain an answer from its log record."),
    "log": Entry("log", "List, show, verify and export the decision log."),
    "family": Entry("family", "List, show and make families of specialists."),
    "serve": Entry("serve", "Serve the OpenAI protocol, the log and metrics over HTTP."),
    "locate": Entry("locate", "Rank the parts of a model that an answer comes from."),
    "steer": Entry("steer", "Make steering entries, admit them, enter them into a policy."),
    "route": Entry("route", "Fit routing policies from labelled tables, judge and compare them."),
    "build": Entry("build", "Make a specialist as a recipe says: distil, fine-tune, quantize, verify."),
    "bench": Entry("bench", "Measure a family against its baselines."),
    "doctor": Entry("doctor", "Check this installation and say what to do about each fault."),
    "config": Entry("config", "Show the settings in force and where each comes from."),
}


def load(name: str) -> Any:
    """Import sub-command `name` (a key of `COMMANDS`) and return its command object.

    Imports make no garbage, and collecting it meanwhile takes a tenth of their time.
    """
    gc.disable()
    try:
        module = import_module(f".{COMMANDS[name].module}", __package__)
    finally:
        gc.enable()
    command = typer.main.get_command(module.app)
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """A group that lists sub-commands from the table and imports only the one that runs.

    `pilothouse log` must answer in well under a second, so it may not pay for torch in its neighbours.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=entry.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False, epilog=EXIT_CODES)


def installed(distribution: str) -> str:
    """Version of an installed distribution, read without importing it; says so where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def show_version(wanted: bool) -> None:
    """Print the version line of a bug report and leave."""
    if not wanted:
        return
    python = ".".join(map(str, sys.version_info[:3]))
    typer.echo(f"pilothouse {installed('pilothouse')} (Python {python}, torch {installed('torch')})")
    raise typer.Exit


@app.callback()
def pilothouse(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print versions.")
    ] = False,
) -> None:
    """Small specialists, chosen and steered per request by probes on hidden states; the log says why."""


def main() -> None:
    """Console entry point: a fault that has a name ends in one sentence on stderr and its own exit code."""
    try:
        app(prog_name="pilothouse")
    except PilothouseError as fault:
        typer.echo(f"pilothouse: {visible(str(fault))}", err=True)
        sys.exit(fault.exit_code)
