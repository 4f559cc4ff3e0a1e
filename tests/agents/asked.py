"""What the controller's tests ask, and how they read what came of it."""

from __future__ import annotations

from collections.abc import Callable

from scripted_engine import ScriptedEngine

from pilothouse.agents.pilot import Pilot
from pilothouse.store.audit import Audit
from pilothouse.store.records import Page

SUM, WORD, LOST = "What is 3 + 4?", "Spell dog.", "zzq#@@xvjk#q%w"
Make = Callable[..., tuple[Pilot, ScriptedEngine]]


def page(name: str = "last") -> Page:
    """A record of the log at the usual place."""
    with Audit.open() as audit:
        return audit.page(name)
