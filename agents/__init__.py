"""Pilothouse: agents. `Pilot` and `AsyncPilot` are the way in for Python, loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answer import Answer, Restart
    from .async_pilot import AsyncPilot
    from .course import Course
    from .pilot import Pilot

__all__ = ["Answer", "AsyncPilot", "Course", "Pilot", "Restart"]
_HOMES = {
    "Answer": ".answer",
    "AsyncPilot": ".async_pilot",
    "Course": ".course",
    "Pilot": ".pilot",
    "Restart": ".answer",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: the log's commands share this package and stay fast."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
