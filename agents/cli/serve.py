"""`pilothouse serve`: the HTTP service, and its keys."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...store.errors import UsageError
from ...store.printable import visible
from . import console
from .console import DeviceOption, EngineOption, FamilyOption, JsonOption, NoLogOption, QuietOption

if TYPE_CHECKING:
    from ..service.keys import Keys, Scope
    from ..service.settings import ServiceSettings

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
key_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys that callers need.")
app.add_typer(key_app, name="key")
NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus-client"}
KeysOption = Annotated[
    Path | None, typer.Option("--keys", metavar="FILE", help="Where the keys are; else beside config.toml.")
]


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8000,
    require_key: Annotated[
        bool, typer.Option("--require-key", help="Ask for a key on loopback too, as behind a proxy.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Stream text before its check; a check may withdraw it.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Answers at once.")] = 16,
    waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait for one.")] = 64,
    requests_per_minute: Annotated[int, typer.Option(min=0, help="For each key; 0 is no limit.")] = 600,
    tokens_per_minute: Annotated[int, typer.Option(min=0, help="For each key; 0 is no limit.")] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer that may be asked for.")] = 1024,
    drain: Annotated[float, typer.Option(min=0, help="Seconds to finish answers when stopped.")] = 30.0,
    no_log: NoLogOption = False,
    keys: KeysOption = None,
    family: FamilyOption = None,
    engine: EngineOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
) -> None:
    """Serve the OpenAI protocol, the log's records, health and metrics over HTTP.

    On loopback no key is needed; anywhere else one is, and `serve key add` makes it.
    """
    if context.invoked_subcommand is not None:
        return
    _require_packages()
    from ..service.server import serve
    from ..service.settings import ServiceSettings, is_loopback

    more = {"keys": keys} if keys is not None else {}
    settings = ServiceSettings(
        host=host,
        port=port,
        open=is_loopback(host) and not require_key,
        live=live,
        concurrency=concurrency,
        waiting=waiting,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_tokens=max_tokens,
        drain_seconds=drain,
        **more,
    )
    _require_keys(settings)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING if quiet else logging.INFO)
    chosen = console.settings_with(family=family, engine=engine, device=device)
    with console.open_pilot(chosen, no_log=no_log) as pilot:
        if not settings.open:
            console.noter(quiet)("a key is needed: `pilothouse serve key list` shows them")
        serve(pilot, settings)


@key_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose it is, or what for.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="ask, audit; both where none is given.")
    ] = None,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once; only its digest is kept."""
    from ..service.keys import SCOPES

    wanted: list[Scope] = list(scope) if scope else list(SCOPES)  # type: ignore[arg-type]
    key, secret = _keys(keys).add(name, wanted)
    if as_json:
        console.print_json({"id": key.id, "name": key.name, "scopes": list(key.scopes), "key": secret})
        return
    console.note(f"key {key.id} for {key.name} may {' and '.join(key.scopes)}; keep it, it is shown only now")
    typer.echo(secret)


@key_app.command("list")
def list_keys(keys: KeysOption = None, as_json: JsonOption = False) -> None:
    """List the keys: id, scopes, state, name."""
    for key in _keys(keys).all():
        state = f"revoked {key.revoked_at}" if key.revoked_at else f"made {key.created_at}"
        if as_json:
            console.print_json(key.model_dump(mode="json", exclude={"sha256"}))
        else:
            typer.echo(visible(f"{key.id}\t{','.join(key.scopes)}\t{state}\t{key.name}", keep="\t"))


@key_app.command()
def revoke(
    number: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    keys: KeysOption = None,
) -> None:
    """Refuse a key from now on; a running service notices at once."""
    key = _keys(keys).revoke(number)
    console.note(f"key {key.id} for {key.name} is revoked")


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    _require_packages()
    from ..pilot import Pilot
    from ..service.app import create_app
    from ..service.document import document

    typer.echo(document(create_app(Pilot())))


def _keys(place: Path | None) -> Keys:
    from ..service.keys import Keys
    from ..service.settings import keys_path

    return Keys(place or keys_path())


def _require_keys(settings: ServiceSettings) -> None:
    """Raises UsageError where callers need a key, and there is none."""
    from ..service.keys import Keys

    if not settings.open and all(key.revoked_at for key in Keys(settings.keys).all()):
        raise UsageError(
            f"callers of {settings.host} need a key, and there is none; make one: "
            "pilothouse serve key add NAME"
        )


def _require_packages() -> None:
    """Raises UsageError where a package that only the service needs is not installed."""
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise UsageError(f"the service needs {', '.join(missing)}; install: pip install 'pilothouse[serve]'")
