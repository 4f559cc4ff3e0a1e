"""Where things live: the platform's data, config, cache and state folders, or all of them under one variable.

`PILOTHOUSE_HOME=DIR` moves everything to `DIR/data`, `DIR/config`, `DIR/cache` and `DIR/state`.
`PILOTHOUSE_LOG` names the log alone: a file, or the URL of a database. Nothing is created by asking.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs

HOME = "PILOTHOUSE_HOME"
LOG = "PILOTHOUSE_LOG"


def _folder(kind: Literal["data", "config", "cache", "state"]) -> Path:
    home = os.environ.get(HOME)
    if home:
        return Path(home).expanduser().absolute() / kind
    return Path(getattr(platformdirs, f"user_{kind}_dir")("pilothouse", appauthor=False))


def data_dir() -> Path:
    """Where the log and families made here live."""
    return _folder("data")


def config_dir() -> Path:
    """Where `config.toml` lives."""
    return _folder("config")


def cache_dir() -> Path:
    """Where things that can be made again live."""
    return _folder("cache")


def state_dir() -> Path:
    """Where chat history lives."""
    return _folder("state")


def log_place() -> str:
    """The log's file, or the URL of its database."""
    return os.environ.get(LOG) or str(data_dir() / "log.db")
