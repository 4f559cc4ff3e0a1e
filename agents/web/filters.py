"""The filter in the URL: the same words as `pilothouse log list`, and links that change one of them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query

from ...store.audit import Filter
from ...store.errors import UsageError
from ...store.records import Frozen, Status
from ..cli.logs import moment

LONGEST = 500  # characters of one value
STATUSES: tuple[Status, ...] = ("completed", "abstained", "failed", "aborted", "in_progress")
Word = Annotated[str | None, Query(max_length=LONGEST)]


class Wanted(Frozen):
    """The filter as it stands in the URL; times may be ages such as 7d. An empty field is no condition."""

    status: str | None = None
    specialist: str | None = None
    thread: str | None = None
    since: str | None = None
    until: str | None = None
    text: str | None = None

    @property
    def filter(self) -> Filter:
        """The filter that it means. Raises UsageError for a status or time that there is not."""
        if self.status is not None and self.status not in STATUSES:
            raise UsageError(f"there is no status {self.status!r}; choose one of {', '.join(STATUSES)}")
        return Filter(
            status=self.status,
            specialist=self.specialist,
            thread=self.thread,
            since=moment(self.since),
            until=moment(self.until),
            text=self.text,
        )

    @property
    def given(self) -> dict[str, str]:
        """The conditions that there are."""
        return {key: value for key, value in self.model_dump().items() if value is not None}

    def query(self, **changes: Any) -> str:
        """The query of a link: this filter with some values changed (None: dropped)."""
        values = {key: value for key, value in (self.given | changes).items() if value not in (None, "")}
        return "?" + urlencode(values) if values else "?"


def wanted(
    status: Word = None,
    specialist: Word = None,
    thread: Word = None,
    since: Word = None,
    until: Word = None,
    text: Word = None,
) -> Wanted:
    """Read the filter from the query."""
    values = {
        "status": status,
        "specialist": specialist,
        "thread": thread,
        "since": since,
        "until": until,
        "text": text,
    }
    return Wanted(**{key: value.strip() or None for key, value in values.items() if value is not None})


WantedQuery = Annotated[Wanted, Depends(wanted)]
