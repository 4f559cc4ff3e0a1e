"""Which code wrote a row: the version, and a digest of the sources themselves."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

FLOORS = ("agents", "kernels", "router", "specialists", "store")


@cache
def code_version() -> str:
    """Return `VERSION+DIGEST`: twelve digits of a SHA-256 over every Python source of the floors.

    Two checkouts of one version differ in their digest, so a replay can say that the code changed.
    """
    root = Path(__file__).resolve().parent.parent
    sources = hashlib.sha256()
    for path in sorted(path for floor in FLOORS for path in (root / floor).rglob("*.py")):
        sources.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{_release()}+{sources.hexdigest()[:12]}"


def _release() -> str:
    try:
        return metadata.version("pilothouse")
    except metadata.PackageNotFoundError:
        return "uninstalled"
