"""What every handler works with: the pilot, the log, the keys, the meters, and who may come in now."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from fastapi import Request

from ...store.audit import Audit
from ...store.errors import UsageError
from ...store.ledger import Ledger
from ..answer import Answer
from ..pilot import Pilot
from .faults import Refusal
from .gate import Allowance, Gate
from .keys import Keys
from .meters import Meters
from .settings import ServiceSettings

if TYPE_CHECKING:
    from ...specialists.card import Card
    from ..voyage import Ship

logger = logging.getLogger(__name__)
State = Literal["loading", "ready", "failed", "draining"]


class Desk:
    """One service's state; handlers find it as `desk_of(request)`.

    The pilot is the caller's: it is used here and never closed. `state` is what /readyz tells; `fault` is why
    it is `failed`.
    """

    def __init__(self, pilot: Pilot, settings: ServiceSettings) -> None:
        self.pilot, self.settings = pilot, settings
        self.keys = Keys(settings.keys)
        self.gate = Gate(settings.concurrency, settings.waiting, settings.wait_seconds)
        self.requests = Allowance(settings.requests_per_minute, "requests")
        self.tokens = Allowance(settings.tokens_per_minute, "tokens")
        self.meters = Meters(self.gate)
        self.since = int(time.time())
        self.state: State = "loading"
        self.fault: BaseException | None = None
        self._audit: Audit | None = None
        self._opening = threading.Lock()

    @property
    def audit(self) -> Audit:
        """The pilot's log, open for reading. Raises UsageError where nothing is logged, or StoreError."""
        with self._opening:
            if self._audit is None:
                log = self.ship.log
                if not isinstance(log, Ledger):
                    raise UsageError("nothing is logged here; start the service with a log")
                self._audit = Audit.open(str(log.place.path or log.place.url))
            return self._audit

    @property
    def ship(self) -> Ship:
        """The loaded family. Raises Refusal (503) while there is none, or no more work is taken."""
        if self.state != "ready":
            raise Refusal(
                503,
                f"this service is {self.state}; try again later",
                "not_ready",
                headers={"retry-after": "1"},
            )
        return self.pilot.ship

    @property
    def cards(self) -> Mapping[str, Card]:
        """The specialists, by name."""
        return self.ship.cards

    def answered(self, caller: str, answer: Answer) -> None:
        """Count an answer, and take its tokens of the caller's allowance."""
        self.meters.answered(answer)
        self.tokens.charge(caller, answer.usage.total_tokens)

    async def warm(self) -> None:
        """Load the pilot and let the model answer once; then the service is ready."""
        try:
            await asyncio.to_thread(_first_token, self.pilot)
        except Exception as fault:
            self.state, self.fault = "failed", fault
            logger.error("the service cannot answer: %s", fault)
        else:
            if self.state == "loading":
                self.state = "ready"

    def exposition(self) -> bytes:
        """What Prometheus reads."""
        log = self.pilot.ship.log if self.pilot.is_open else None
        return self.meters.text(log.told if isinstance(log, Ledger) else {})

    def drain(self) -> None:
        """Take no new work; what is under way goes on."""
        self.state = "draining"

    def close(self) -> None:
        """Let go of the log's reading side."""
        if self._audit is not None:
            self._audit.close()
            self._audit = None


def desk_of(request: Request) -> Desk:
    """The desk of the application that this request came to."""
    desk: Desk = request.app.state.desk
    return desk


def _first_token(pilot: Pilot) -> None:
    """Read a prompt and draw one token: a model that does this answers."""
    from ...specialists.engines.base import Sampling
    from ...store.records import Message

    ship: Ship = pilot.warm().ship
    prefill = ship.engine.probe(ship.engine.encode_chat([Message(role="user", content="Hello")]), ship.layers)
    name = next((card.name for card in ship.cards.values() if card.kind != "cards"), None)
    if name is not None:
        next(iter(ship.engine.generate(prefill, name, Sampling(max_tokens=1))))
