"""What the commands that learn from labelled tables share: their options, and reading what these name."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ...store.errors import UsageError
from . import console
from .console import QuietOption

if TYPE_CHECKING:
    from ...router.routing.fitting import Options
    from ...router.routing.scouts import Reader
    from ...router.routing.table import Table

Tables = Annotated[
    list[Path], typer.Argument(metavar="TABLE…", help="CSV, JSON Lines or Parquet; several are joined.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where it goes.")]
WideOption = Annotated[
    str, typer.Option(metavar="A,B,…", help="These columns are models, each with its labels.")
]
ScoutOption = Annotated[
    str, typer.Option(metavar="NAME|DIR", help="A family, a model folder, or none.", show_default=True)
]
LayersOption = Annotated[
    str, typer.Option(metavar="I,J,…", help="Layers of the scout to read (else its usual).")
]
PoolOption = Annotated[str, typer.Option(metavar="HOW,…", help="last, mean, max_rolling_mean, attention.")]
PrecisionOption = Annotated[
    str, typer.Option(help="The scout's numbers: float32 or int8 (a decoder), bfloat16 (an encoder).")
]
HeadsOption = Annotated[str, typer.Option(metavar="A,B,…", help="Heads to stack (else all that work).")]
PriceOption = Annotated[list[str] | None, typer.Option("--price", metavar="MODEL=P", help="Else mean costs.")]
CacheOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Keep what the scout saw here.")]
LeaksOption = Annotated[
    bool, typer.Option("--drop-leaks", help="Drop training prompts that are in the test.")
]
_TIMED = 12  # prompts that the scout is timed on


@dataclass(frozen=True)
class Job:
    """A table to learn from, and with what."""

    tables: Tables
    out: OutOption
    scout: ScoutOption = "starter"
    wide: WideOption = ""
    models: Annotated[str, typer.Option(metavar="A,B,…", help="Only these models.")] = ""
    layers: LayersOption = ""
    pool: PoolOption = ""
    precision: PrecisionOption = ""
    heads: HeadsOption = ""
    price: PriceOption = None
    drop_leaks: LeaksOption = False
    cache: CacheOption = None
    seed: Annotated[int, typer.Option(help="Of folds and resamples.")] = 0
    quiet: QuietOption = False

    def say(self, line: str) -> None:
        """Tell progress, unless asked to be quiet."""
        if not self.quiet:
            console.note(line)

    def table(self) -> Table:
        """The tables, joined and checked."""
        return read(self.tables, self.wide, self.models, self.drop_leaks)

    @cached_property
    def reader(self) -> Reader:
        """The scout."""
        from ..routers import open_reader

        return open_reader(self.scout, numbers(self.layers), names(self.pool), self.precision)

    def options(self, objective: str = "auto") -> Options:
        """How to fit."""
        from ...router.routing.fitting import Options
        from ...router.routing.recipes import STACKED

        return Options(names(self.heads) or STACKED, objective, seed=self.seed)

    def prices(self) -> dict[str, float]:
        """The prices that were given."""
        return prices(self.price)


def sharing(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a `Job`, as one that takes the job's fields as options."""
    shared = [*inspect.signature(Job).parameters]
    own = [*inspect.signature(command).parameters][1:]
    hints = get_type_hints(Job, include_extras=True) | get_type_hints(command, include_extras=True)
    defaults = {**inspect.signature(Job).parameters, **inspect.signature(command).parameters}

    def run(**given: Any) -> None:
        command(Job(**{name: given.pop(name) for name in shared}), **given)

    parameters = [
        defaults[name].replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name in (*shared, *own)
    ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {name: hints[name] for name in (*shared, *own)}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers between commas. Raises UsageError."""
    try:
        return tuple(int(name) for name in names(text))
    except ValueError as error:
        raise UsageError(f"the layers {text!r} are no numbers; write them as 2,4,6") from error


def prices(pairs: list[str] | None) -> dict[str, float]:
    """Prices from MODEL=NUMBER. Raises UsageError."""
    found = {}
    for pair in pairs or []:
        name, _, value = pair.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            name = ""
        if not name or not 0 <= found[name] < float("inf"):
            raise UsageError(f"the price {pair!r} is not MODEL=NUMBER with a number from 0 up; correct it")
    return found


def read(paths: list[Path], wide: str, models: str, drop_leaks: bool) -> Table:
    """Read, join and check tables. Raises UsageError when a prompt is in two splits."""
    from ...router.routing.reading import read_table
    from ...router.routing.table import joined, require_apart, without_leaks

    tables = [read_table(path, names(wide)) for path in paths]
    table = tables[0] if len(tables) == 1 else joined(tables)
    table = table.with_models(names(models)) if models else table
    if drop_leaks:
        table = without_leaks(table)
    require_apart(table)
    return table


def split(table: Table) -> tuple[Table, Table | None]:
    """What is fitted on, and the split `test` if there is one. Raises UsageError when that is all."""
    if "test" not in table.splits:
        return table, None
    parts = [[i for i, s in enumerate(table.splits) if (s == "test") is wanted] for wanted in (False, True)]
    if not parts[0]:
        raise UsageError("every row of the table is in the split 'test'; rows to fit on are needed too")
    return table.take(parts[0]), table.take(parts[1])


def facts_of(table: Table, reader: Reader) -> dict[str, Any]:
    """What a report says of its table and scout."""
    spec = reader.spec
    site = f" at {spec['site']}" if "site" in spec else ""
    return {
        "prompts": len(table),
        "models": len(table.models),
        "labels": int(table.labelled.sum()),
        "duplicates (case, spacing and punctuation aside)": len(table) - len(set(table.keys)),
        "noticed while reading": "; ".join(table.notes) or "none",
        "scout": f"{Path(str(spec.get('place', 'none'))).name}{site}",
        "scout, one prompt at a time": f"{milliseconds(reader, table):.1f} ms in the middle, on this machine",
    }


def milliseconds(reader: Reader, table: Table) -> float:
    """The middle time that the scout takes for one of the table's prompts."""
    found = []
    for turns in table.turns[:: max(1, len(table) // _TIMED)][:_TIMED]:
        begun = time.perf_counter()
        reader.read([turns])
        found.append(1e3 * (time.perf_counter() - begun))
    return sorted(found)[len(found) // 2]
