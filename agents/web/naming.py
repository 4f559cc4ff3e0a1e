"""Records by name, without telling where on this machine the log lies."""

from __future__ import annotations

from ...store.errors import NotFoundError
from ...store.records import Page
from ..service.desk import Desk
from ..service.faults import Refusal


def resolved(desk: Desk, name: str) -> str:
    """The full id that `name` means. Raises Refusal (404), UsageError for one that could mean several."""
    try:
        return desk.audit.resolve(name)
    except NotFoundError:
        raise Refusal(404, "there is no such record; /audit lists them", "not_found", "name") from None


def page_of(desk: Desk, name: str) -> Page:
    """The page of the record that `name` means. Raises as `resolved`."""
    return desk.audit.page(resolved(desk, name))
