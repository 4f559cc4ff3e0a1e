"""The audit's routers, as the service includes them."""

from __future__ import annotations

from . import pages, records, telling

ROUTERS = (pages.router, telling.router, records.router)
