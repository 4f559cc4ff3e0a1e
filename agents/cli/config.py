"""`pilothouse config`: the settings in force, and where each comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...store import paths
from ...store.printable import visible
from . import console
from .console import JsonOption

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)


@app.callback()
def config() -> None:
    """Show the settings in force and where each comes from."""


@app.command()
def show(
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting.

    A flag beats the environment (PILOTHOUSE_MAX_TOKENS), which beats the project's pilothouse.toml, which
    beats your config.toml, which beats the default.
    """
    from ..settings import resolve

    found = resolve()
    values: dict[str, Any] = found.settings.model_dump()
    if as_json:
        both = {key: {"value": value, "origin": found.origins[key]} for key, value in values.items()}
        console.print_json(both if origin else values)
        return
    for key, value in values.items():
        line = f"{key} = {_toml(value)}"
        where = f"  # {found.origins[key]}" if origin else ""
        typer.echo(visible(f"{line:<32}{where}".rstrip(), keep=""))


@app.command()
def path(as_json: JsonOption = False) -> None:
    """Show where settings, log, conversations, families and history live (PILOTHOUSE_HOME moves them all)."""
    from ..settings import project_file, user_file

    places = {
        "config": str(user_file()),
        "project": str(project_file(Path.cwd()) or ""),
        "log": paths.log_place(),
        "threads": str(paths.data_dir() / "threads.db"),
        "families": str(paths.data_dir() / "families"),
        "cache": str(paths.cache_dir()),
        "history": str(paths.state_dir() / "history"),
    }
    if as_json:
        console.print_json(places)
        return
    for name, place in places.items():
        typer.echo(visible(f"{name:<9} {place or '(none)'}", keep=""))


def _toml(value: object) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
