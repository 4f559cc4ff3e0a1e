"""A PostgreSQL connection that gives up on a server that says nothing.

The kernel notices a network that loses packets (see `postgres.engine`), but not a server that was stopped, or
something between that takes bytes and passes none on: those acknowledge everything and never answer.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg


class ImpatientConnection(psycopg.Connection[Any]):
    """`silence` is how many seconds the server may say nothing while it is waited for; None is for ever.

    A statement that goes on longer raises OperationalError, and the connection is closed.
    """

    silence: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """As psycopg has it, but for the silence."""
        heard = gen if self.silence is None else self._listening(gen, self.silence)
        return super().wait(heard, *arguments, **options)

    def _listening(self, gen: Generator[Any, Any, Any], silence: float) -> Generator[Any, Any, Any]:
        """`gen`, which is told every tenth of a second that nothing came."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > silence:
                    self.close()
                    raise psycopg.OperationalError(f"the server said nothing for {silence:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
