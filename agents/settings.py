"""Settings: what they are, and where each value comes from.

Precedence: a flag, then the environment (`PILOTHOUSE_MAX_TOKENS`), then the project's `pilothouse.toml` (in
the working folder or one above), then the user's `config.toml`, then the default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..store import paths
from ..store.errors import UsageError
from ..store.plugins import Group

PREFIX = "PILOTHOUSE_"
PROJECT_FILE = "pilothouse.toml"
USER_FILE = "config.toml"
# these move the files themselves, so no file can set them
PLACES = ("HOME", "LOG")


class Settings(BaseModel):
    """Every setting with its default. Unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Annotated[str, Field(description="family to answer with: a name or a folder")] = "starter"
    engine: Annotated[
        str,
        AfterValidator(lambda name: _one_of("pilothouse.engines", "engine", name)),
        Field(description="who runs the models: auto, native, torch, vllm, or a package's"),
    ] = "auto"
    device: Annotated[str, Field(description="auto, cpu, cuda, or a torch device")] = "auto"
    cores: Annotated[int | None, Field(ge=1, description="CPU threads of torch (none: its own choice)")] = (
        None
    )
    max_tokens: Annotated[int, Field(ge=1, description="longest answer, in tokens")] = 256
    temperature: Annotated[float, Field(ge=0, le=100, description="0 is greedy")] = 0.0
    seed: Annotated[int, Field(description="for temperatures above 0")] = 0
    keep_text: Annotated[bool, Field(description="keep prompts and answers in the log, not only digests")] = (
        True
    )
    redact: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(description="regular expressions masked in every text before the log keeps it"),
    ] = ()
    sinks: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(description="who is told of every closed record: stderr, opentelemetry, or a package's"),
    ] = ()
    parts: Annotated[int, Field(ge=1, le=6, description="most asks taken from one prompt")] = 6
    hops: Annotated[int, Field(ge=0, le=2, description="most escalations of one part")] = 2
    min_mean_logprob: Annotated[
        float, Field(le=0, description="escalate answers below this, in nats a token")
    ] = -2.0
    prompt_characters: Annotated[int, Field(ge=1, description="longest prompt that is read")] = 20_000
    markdown: Annotated[bool, Field(description="render Markdown in the chat, on a terminal")] = True


def _one_of(group: str, noun: str, name: str) -> str:
    """Pass on a name that a package brings. Raises ValueError, as pydantic wants it, for another."""
    try:
        Group(group, noun).require(name)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return name


@dataclass(frozen=True)
class Resolved:
    """The settings in force, and for each key where it came from."""

    settings: Settings
    origins: Mapping[str, str]


def resolve(flags: Mapping[str, Any] | None = None, folder: Path | None = None) -> Resolved:
    """Gather the settings. Flags that are None were not given.

    Raises UsageError for an unknown key (naming the nearest), a value that does not fit, an unreadable file.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    for origin, layer in _layers(flags or {}, folder or Path.cwd()):
        for key, value in layer.items():
            _known(key, origin)
            values[key], origins[key] = value, origin
    try:
        return Resolved(Settings.model_validate(values), origins)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise UsageError(
            f"setting {key} is {first['input']!r} ({origins[key]}): "
            f"{first['msg'].removeprefix('Value error, ')}; correct it"
        ) from error


def _layers(flags: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Weakest first."""
    for path in (user_file(), project_file(folder)):
        if path is not None and path.is_file():
            yield str(path), _read(path)
    for name in sorted(os.environ):
        key = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and key not in PLACES:
            yield f"environment {name}", {key.lower(): os.environ[name]}
    yield "flag", {key: value for key, value in flags.items() if value is not None}


def user_file() -> Path:
    """The user's settings file, there or not."""
    return paths.config_dir() / USER_FILE


def project_file(folder: Path) -> Path | None:
    """The nearest project file at or above `folder`."""
    places = [folder, *folder.absolute().parents]
    return next((place / PROJECT_FILE for place in places if (place / PROJECT_FILE).is_file()), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the settings file {path} cannot be read ({error}); correct or remove it"
        ) from error


def _known(key: str, origin: str) -> None:
    if key in Settings.model_fields:
        return
    if key.upper() in PLACES:
        raise UsageError(f"{key!r} cannot be set in {origin}; set {PREFIX}{key.upper()} in the environment")
    near = get_close_matches(key, Settings.model_fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(Settings.model_fields)}"
    raise UsageError(f"unknown setting {key!r} ({origin}); {hint}")
