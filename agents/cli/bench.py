"""`pilothouse bench`: the measurements of `pilothouse.bench`, whose heavy baselines load when one runs."""

from __future__ import annotations

from ...bench.commands import app

__all__ = ["app"]
