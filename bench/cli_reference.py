"""Writes the command-line reference from the command line itself: `make docs`; a test compares."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ..agents.cli.main import COMMANDS, app, load

HEADER = """# Command line

Generated from the program by `make docs`; do not edit.
"""


def reference() -> str:
    """The whole page. It imports every sub-command."""
    root = typer.main.get_command(app)
    parts = [HEADER, *section("pilothouse", root), commands()]
    for name in COMMANDS:
        parts += walk(f"pilothouse {name}", load(name))
    return "\n".join(parts).rstrip() + "\n"


def commands() -> str:
    rows = [f"| [`{name}`](#pilothouse-{name}) | {entry.help} |" for name, entry in COMMANDS.items()]
    return "\n".join(["| command | |", "|---|---|", *rows, ""])


def walk(path: str, command: Any) -> Iterator[str]:
    """A command's section, then those of its sub-commands, depth first."""
    yield from section(path, command)
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(f"{path} {name}", child)


def section(path: str, command: Any) -> Iterator[str]:
    # one level for the command itself, one deeper for what it holds
    yield f"{'#' * (1 + len(path.split()))} {path}\n"
    for text in (command.help, command.epilog):
        if text:
            yield text.strip() + "\n"
    rows = [row(parameter) for parameter in command.params if shown(parameter)]
    if rows:
        yield "\n".join(["| argument or option | default | |", "|---|---|---|", *rows, ""])


def shown(parameter: Any) -> bool:
    """Completion set-up comes from the library and is the same everywhere."""
    names = {"help", "install_completion", "show_completion"}
    return parameter.name not in names and not getattr(parameter, "hidden", False)


def row(parameter: Any) -> str:
    cells = (f"`{usage(parameter)}`", default(parameter), parameter.help or "")
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def usage(parameter: Any) -> str:
    """`PROMPT`, `--json` or `-n, --limit LIMIT`."""
    value = parameter.metavar or parameter.name.upper()
    if parameter.param_type_name == "argument":
        return str(value)
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {value}"


def default(parameter: Any) -> str:
    """What a user gets by saying nothing, as written; computed and unset ones are left blank."""
    if parameter.required:
        return "required"
    value = parameter.default
    said = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
    return f"`{value}`" if said else ""


def main() -> None:
    """Write the page to the file named on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pilothouse.bench.cli_reference FILE")
    page = Path(sys.argv[1])
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
