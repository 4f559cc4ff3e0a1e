"""`pilothouse bench`: each measurement is a module of `pilothouse.bench`, loaded when it runs."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

PACKAGE = "...bench"


def measurements() -> dict[str, str]:
    """The bench modules that offer an `app`, each with its first line. Their source is read, not run."""
    package = import_module(PACKAGE, __package__)
    found = {}
    for folder in map(Path, package.__path__):
        for one in pkgutil.iter_modules([str(folder)]):
            source = folder / f"{one.name}.py"
            tree = ast.parse(source.read_text(encoding="utf-8")) if source.is_file() else ast.parse("")
            if any(_assigns_app(node) for node in tree.body):
                found[one.name] = (ast.get_docstring(tree) or one.name).splitlines()[0]
    return dict(sorted(found.items()))


def _assigns_app(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "app" for target in targets)


class BenchGroup(TyperGroup):
    """Lists the measurements, and imports only the one that runs: each brings its own heavy baselines."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, line in measurements().items():
            self.add_command(TyperCommand(name=name, help=line))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in measurements() else command, rest


def load(name: str) -> Any:
    """Import one measurement and return its command."""
    command = typer.main.get_command(import_module(f"{PACKAGE}.{name}", __package__).app)
    command.name = name
    return command


app = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def bench() -> None:
    """Measure a family against its baselines."""
