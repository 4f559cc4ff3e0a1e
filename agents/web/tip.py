"""The verify badge: the chain's tip, and when this process last checked the whole chain.

Checking reads every row, so it happens when somebody asks for it, one check at a time; the tip alone costs
one look-up. The badge vouches for what this process checked; a tip kept elsewhere vouches for more.
"""

from __future__ import annotations

import threading
from typing import Any

from fastapi import Request

from ...store.errors import PilothouseError
from ...store.records import Frozen, Time, utc_now
from ...store.verify import Verification
from ..service.desk import Desk, desk_of
from ..service.faults import Refusal


class Checked(Frozen):
    """A verification and when it was made."""

    at: Time
    found: Verification


class Watch:
    """What one application remembers of its checks."""

    def __init__(self) -> None:
        self.last: Checked | None = None
        self._busy = threading.Lock()

    def check(self, desk: Desk, tip: str | None = None) -> Checked:
        """Recompute the chain now. Raises Refusal (503) while another check runs."""
        if not self._busy.acquire(blocking=False):
            raise Refusal(503, "the chain is being checked; try again", "busy", headers={"retry-after": "5"})
        try:
            checked = Checked(at=utc_now(), found=desk.audit.verify(tip))
        finally:
            self._busy.release()
        if tip is None:
            self.last = checked
        return checked


def watch_of(request: Request) -> Watch:
    """The application's watch, made when first asked for."""
    state = request.app.state
    if not hasattr(state, "audit_watch"):
        state.audit_watch = Watch()
    found: Watch = state.audit_watch
    return found


def badge(request: Request) -> dict[str, Any] | None:
    """What the head of every page says of the chain; None where the log cannot be read."""
    try:
        tip = desk_of(request).audit.tip()
    except (PilothouseError, Refusal):
        return None
    last = watch_of(request).last
    return {
        "sequence": tip.sequence,
        "hash": tip.row_hash,
        "checked": last.at if last is not None else None,
        "ok": last.found.ok if last is not None else None,
        "rows": last.found.rows if last is not None else 0,
    }
