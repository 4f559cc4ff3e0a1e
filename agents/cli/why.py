"""`pilothouse why`: explain an answer from its record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import UsageError
from . import console
from .console import DeviceOption, FamilyOption, JsonOption

if TYPE_CHECKING:
    from ..causal import Why
    from ..pilot import Pilot
    from .whystrip import Strip

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@app.command()
def why(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="An id, its first or last characters, or 'last'.")
    ] = "last",
    causal: Annotated[
        bool, typer.Option("--causal", help="Ablate the top features in the scout and route again.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Read a steered answer again: what steering did to each token.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write the page as a picture instead.")
    ] = None,
    as_json: JsonOption = False,
    family: FamilyOption = None,
    device: DeviceOption = None,
) -> None:
    """Explain an answer from its log record.

    Reads the log alone, and loads no model; --causal loads the family and experiments on its scout, --tokens
    loads it and reads a steered answer again.
    """
    settings = console.settings_with(family=family, device=device)
    with console.open_pilot(settings, no_log=False) as pilot:
        found = pilot.why(name, causal)
        strips = _strips(found, pilot) if tokens else []
    if as_json:
        told: dict[str, Any] = {"flips": [one.flips for one in found.effects]}
        told |= {"tokens": [one.model_dump(mode="json") for one in strips]} if tokens else {}
        console.print_json(found.model_dump(mode="json") | told)
        return
    from .whypage import picture, show

    if svg is None:
        show(found, strips)
        return
    try:
        svg.write_text(picture(found, strips), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{svg} cannot be written ({error.strerror}); name a file that can") from error


def _strips(found: Why, pilot: Pilot) -> list[Strip]:
    from .whystrip import strips

    return strips(found.page, pilot.ship)
