"""`pilothouse family`: list, show and make families of specialists."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import UsageError
from ...store.printable import one_line, visible
from . import console
from .console import JsonOption

if TYPE_CHECKING:
    from ...specialists.card import Card
    from ...specialists.family import Family

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False
)


@app.callback()
def family() -> None:
    """List, show and make families of specialists."""


@app.command("list")
def list_families(as_json: JsonOption = False) -> None:
    """List the families that can be named, and the specialists of each."""
    from ...specialists.family import Family, known_families
    from ...store.errors import ArtifactError

    rows: list[dict[str, Any]] = []
    for name, folder in known_families().items():
        row: dict[str, Any] = {"name": name, "folder": str(folder)}
        try:
            row["specialists"] = list(Family.open(folder).cards)
        except ArtifactError as fault:  # one damaged family must not hide the others
            row["fault"] = str(fault)
        rows.append(row)
    if as_json:
        for row in rows:
            console.print_json(row)
        return
    for row in rows:
        about = row.get("fault") or ", ".join(row["specialists"])
        typer.echo(visible(f"{row['name']}\t{row['folder']}\t{about}", keep="\t"))
    if not rows:
        console.note("no family is installed; `pilothouse family new NAME --trunk FOLDER` makes one")


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME|DIR]", help="Else the one in use.")] = None,
    specialist: Annotated[
        str | None, typer.Argument(metavar="[SPECIALIST]", help="Show this card in full.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a family's specialists, or one specialist's whole card."""
    from ...specialists.family import Family

    opened = Family.open(name or console.settings_with().family)
    cards = [opened.card(specialist)] if specialist else list(opened.cards.values())
    if as_json:
        head = opened.settings.model_dump(mode="json") | {"folder": str(opened.folder)}
        console.print_json(head | {"cards": [card.model_dump(mode="json") for card in cards]})
        return
    lines = _card(cards[0]) if specialist else _family(opened)
    for line in lines:
        typer.echo(visible(line, keep=""))


def _family(opened: Family) -> list[str]:
    settings = opened.settings
    lines = [f"{opened.name}: {settings.title or 'a family of specialists'}"]
    lines += [settings.description] if settings.description else []
    lines += [f"folder    {opened.folder}", f"trunk     {opened.trunk_fingerprint}"]
    lines += [f"licence   {settings.licence}"] if settings.licence else []
    for card in opened.cards.values():
        size = f", {card.quantization}" if card.quantization else ""
        lines.append(f"  {card.name:<14} {card.kind}{size}: {one_line(card.description, 80)}")
    return lines


def _card(card: Card) -> list[str]:
    lines = [f"{card.name}: {card.title}", card.description, f"kind      {card.kind}"]
    lines += [f"example   {example}" for example in card.examples]
    lines += [f"data      {one.name} ({one.licence}) {one.source}".rstrip() for one in card.data]
    lines += [f"method    {card.method}"] if card.method else []
    lines += [f"quantized {card.quantization}"] if card.quantization else []
    lines += [f"parent    {card.parent_sha256}"] if card.parent_sha256 else []
    for name, value in card.metrics.items():
        figures = value if isinstance(value, dict) else {"": value}
        shown = ", ".join(f"{key} {figure:g}".strip() for key, figure in figures.items())
        lines.append(f"measured  {name}: {shown}")
    return lines + ([f"outside   {card.out_of_domain}"] if card.out_of_domain else [])


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The new family's name: small letters, digits, - and _.")],
    trunk: Annotated[
        str, typer.Option(help="A Hugging Face model folder, or a hub name such as Qwen/Qwen3-0.6B.")
    ],
    copy: Annotated[bool, typer.Option("--copy", help="Copy the trunk into the family.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to make it (else the data folder).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a family around a trunk: it answers with the bare trunk until probes and specialists are added."""
    from ...specialists.create import new_family

    made = new_family(_trunk_folder(trunk), name, folder, copy=copy)
    if as_json:
        console.print_json({"name": made.name, "folder": str(made.folder), "trunk": made.trunk_fingerprint})
        return
    typer.echo(visible(str(made.folder), keep=""))
    if sys.stderr.isatty():
        console.note(f"try: pilothouse ask --family {made.name} 'Hello'")


# weights and settings only: no pickles, no code
WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model")


def _trunk_folder(trunk: str) -> Path:
    """The folder itself, or that of a hub model, downloaded if need be. Raises UsageError for none."""
    folder = Path(trunk).expanduser()
    if folder.exists() or trunk.count("/") != 1 or trunk.startswith((".", "/", "~")):
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(trunk, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"the hub model {trunk!r} cannot be had ({type(error).__name__}); check the name and network, "
            "or give the folder of a downloaded model"
        ) from error
