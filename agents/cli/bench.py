"""`pilothouse bench`: the measurements of `pilothouse.bench`, whose heavy baselines load when one runs."""

from __future__ import annotations

from ...bench.commands import app
from ...bench.faults import faults

app.command()(faults)

__all__ = ["app"]
