"""What if: the numbers of another policy in the URL, and what they would have done with recorded requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query

from ...router.policy import Policy
from ...store.errors import UsageError
from ...store.records import Frozen, Page
from ..service.desk import Desk
from ..voyage import Ship
from ..whatif import changed_policy
from ..whatif import what_if as decide_all_again
from .filters import Wanted
from .naming import page_of

MOST = 1000  # records decided again for one page; the command line has no such limit


class Changes(Frozen):
    """What differs from the policy in force. `price` holds `NAME=PRICE` entries."""

    price: tuple[str, ...] = ()
    lam: float | None = None
    threshold: float | None = None


def changes(
    price: Annotated[list[str] | None, Query(max_length=32)] = None,
    lam: Annotated[str, Query(max_length=32)] = "",
    threshold: Annotated[str, Query(max_length=32)] = "",
) -> Changes:
    """Read the changes from the query; an empty field is none. Raises UsageError for what is no number."""
    listed = tuple(one.strip() for text in price or () for one in text.split(",") if one.strip())
    return Changes(price=listed, lam=_number("lam", lam), threshold=_number("threshold", threshold))


def _number(name: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{name} {text!r} is no number; write one, for example 0.5") from error


ChangesQuery = Annotated[Changes, Depends(changes)]


def meant(desk: Desk, wanted: Wanted, name: str) -> list[Page]:
    """The one record named, else the newest that fit."""
    return [page_of(desk, name)] if name else desk.audit.latest(wanted.filter, limit=MOST)


def suppose(pages: Sequence[Page], ship: Ship, wanted: Changes) -> dict[str, Any]:
    """Decide the pages again under the changed policy. Raises UsageError for a price of nobody."""
    current = ship.policy or Policy()
    policy = changed_policy(current, wanted.price, wanted.lam, wanted.threshold)
    if strangers := sorted(set(policy.prices) - set(ship.cards)):
        raise UsageError(f"there is no specialist {strangers[0]!r}; choose one of {', '.join(ship.cards)}")
    report = decide_all_again(pages, policy, [current])
    return {
        "changes": wanted.model_dump(),
        "policy": policy.model_dump(mode="json"),
        "current": current.model_dump(mode="json"),
        "report": report.model_dump(mode="json"),
    }
