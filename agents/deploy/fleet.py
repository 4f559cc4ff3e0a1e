"""What a fleet on several machines is made of: controllers and engines, over one family and one log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from sqlalchemy import make_url

from ...store.database import Place
from ...store.errors import PilothouseError, UsageError
from ...store.records import Frozen

Share = Annotated[float, Field(ge=0)]


class Fleet(Frozen):
    """The arguments of the Ray Serve application.

    `family` is a name or folder that every node has. `log` is a PostgreSQL URL without a password (None:
    each node's PILOTHOUSE_LOG); the password comes from the nodes' PGPASSFILE. `keys` is a file that every
    node has; `open` asks for no key, for callers on the proxy's own machine. `engine`, `device`, `cores` and
    `sinks` are the settings of those names. A share is what one replica takes of its node: CPUs and GPUs.
    """

    family: str = "starter"
    log: str | None = None
    controllers: Annotated[int, Field(ge=1)] = 2
    engines: Annotated[int, Field(ge=1)] = 2
    engine: str = "auto"
    device: str = "auto"
    cores: Annotated[int, Field(ge=1)] | None = None
    controller_cpus: Share = 1.0
    engine_cpus: Share = 1.0
    engine_gpus: Share = 0.0
    concurrency: Annotated[int, Field(ge=1)] = 16
    requests_per_minute: Annotated[int, Field(ge=0)] = 600
    patience: Annotated[float, Field(gt=0)] = 30.0
    keys: Path | None = None
    open: bool = False
    sinks: tuple[str, ...] = ()

    @field_validator("log")
    @classmethod
    def _shared(cls, log: str | None) -> str | None:
        if log is not None:
            try:
                require_shared(Place.of(log))
            except PilothouseError as error:
                raise ValueError(str(error)) from error
            if (url := make_url(log)).password is not None or "password" in url.query:
                raise ValueError(
                    "the log's URL holds a password, which Ray would show to everybody who sees its "
                    "dashboard; leave it out, and name a PGPASSFILE in the environment of every node"
                )
        return log

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Fleet:
        """Read the arguments. Raises UsageError that names the first that does not fit; it quotes no URL."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(map(str, first["loc"]))
            known = f"; known are {', '.join(cls.model_fields)}" if first["type"] == "extra_forbidden" else ""
            said = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"argument {name!r} of the application: {said}{known}") from None


def require_shared(place: Place) -> None:
    """Raise UsageError unless every node can write to the log."""
    if place.path is not None:
        raise UsageError(
            f"the log {place.name} is a file, and each node would have one of its own; give a PostgreSQL URL "
            "as the argument `log`, or as PILOTHOUSE_LOG in the environment of every node"
        )
