"""What the service is allowed to do and how much of it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ...store import paths
from ...store.records import Frozen

MEBIBYTE = 1 << 20


def keys_path() -> Path:
    """Where the keys are unless told otherwise."""
    return paths.config_dir() / "keys.json"


class ServiceSettings(Frozen):
    """Limits and places of one service.

    `open`: no key is asked for; only for callers on this machine. `live`: text is streamed before its check
    unless the request says otherwise. Seconds are wall-clock; rates are per key (per address without keys).
    `drain_seconds` is how long answers may still take after the service is told to stop.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    open: bool = True
    keys: Path = Field(default_factory=keys_path)
    live: bool = False
    body_bytes: Annotated[int, Field(ge=1)] = MEBIBYTE
    body_seconds: Annotated[float, Field(gt=0)] = 10.0
    messages: Annotated[int, Field(ge=1)] = 256
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    requests_per_minute: Annotated[int, Field(ge=0)] = 600
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    concurrency: Annotated[int, Field(ge=1)] = 16
    waiting: Annotated[int, Field(ge=0)] = 64
    wait_seconds: Annotated[float, Field(gt=0)] = 30.0
    drain_seconds: Annotated[float, Field(ge=0)] = 30.0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
