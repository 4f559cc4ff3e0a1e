"""`pilothouse locate`: which parts of a family's trunk an answer comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...store.errors import UsageError
from ...store.printable import one_line, visible
from . import console
from .console import FamilyOption, JsonOption, QuietOption

if TYPE_CHECKING:
    from ...router.locate.case import Case
    from ...router.locate.finding import Finding
    from ...specialists.tokenizing import ChatCodec

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@app.command()
def locate(
    method: Annotated[str, typer.Argument(help="See docs/locate.md; `list` shows all.")],
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A prompt a line, or JSON objects (docs/locate.md).")
    ] = None,
    family: FamilyOption = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A model folder instead of a family's trunk.")
    ] = None,
    other: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A second model folder, for `compare`.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="heads, layers, neurons, states: as the method offers.")
    ] = None,
    how: Annotated[str | None, typer.Option(help="A variant of the method.")] = None,
    layer: Annotated[int | None, typer.Option(help="For methods that read one layer.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many objects.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the controls.")] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="Write prompts as the chat template does.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the artifact goes (else ./locate/METHOD).")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".html or .png (else picture.html in the artifact).")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Rank the parts of a model behind an answer; print a table, save the finding, draw it."""
    if method == "list":
        return _list()
    from ...router.locate.methods import entry_of
    from ...router.locate.options import Options

    entry_of(method)
    if prompts is None:
        raise UsageError("there are no prompts; give a file: --prompts FILE")
    options = Options(top, kind, how, layer, seed, other=_loaded(other) if other else None)
    finding = _found(method, prompts, model, family, chat, options)
    from ...router.locate.picture import draw

    folder = out or Path("locate") / method
    saved = finding.save(folder)
    drawn = draw(finding, picture or folder / "picture.html")
    _print(finding, as_json)
    note = console.noter(quiet)
    note(f"saved {saved}")
    note(f"drew {drawn}")


def _list() -> None:
    from ...router.locate.methods import METHODS

    for name, entry in METHODS.items():
        choices = " ".join(
            f"--{option} {'|'.join(values)}"
            for option, values in (("kind", entry.kinds), ("how", entry.hows))
            if values
        )
        typer.echo(f"{name:<11} {entry.help}{f'  ({choices})' if choices else ''}")


def _loaded(folder: Path) -> Any:
    import torch

    from ...specialists.models import load_model_folder

    return load_model_folder(folder.expanduser(), torch.float32).requires_grad_(False)


def _found(
    method: str, prompts: Path, model: Path | None, family: str | None, chat: bool, options: Any
) -> Finding:
    from ...router.fingerprint import fingerprint
    from ...router.locate.anatomy import Anatomy
    from ...router.locate.methods import locate as run
    from ...specialists.family import Family
    from ...specialists.tokenizing import ChatCodec

    if model is not None and family is not None:
        raise UsageError("--model and --family both name a model; give one")
    folder = model or Family.open(family or console.settings_with().family).trunk_folder
    codec = ChatCodec.load(folder)
    cases = _cases(prompts, codec, chat)
    anatomy = Anatomy.of(_loaded(folder), fingerprint(folder))
    return run(method, anatomy, cases, options)


def _cases(prompts: Path, codec: ChatCodec, chat: bool) -> list[Case]:
    from ...router.locate.case import read_cases

    def encode(text: str) -> list[int]:
        return list(codec.encode_prompt(text) if chat else codec.encode_text(text))

    return read_cases(prompts, encode, lambda token: codec.decode([token]))


def _print(finding: Finding, as_json: bool) -> None:
    if as_json:
        console.print_json(
            {
                "method": finding.method,
                "score": finding.score,
                "fingerprint": finding.fingerprint,
                "facts": dict(finding.facts),
                "found": [one._asdict() for one in finding.found],
            }
        )
        return
    typer.echo(visible(f"{finding.method}: {finding.score}", keep=""))
    for rank, one in enumerate(finding.found, 1):
        line = f"{rank:>4}  {one.name:<16} {one.score:>10.4f}  {one_line(one.note, 80)}"
        typer.echo(visible(line.rstrip(), keep=""))
    for name, value in finding.facts.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        typer.echo(visible(f"{name}: {shown}", keep=""))
