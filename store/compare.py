"""Where two records differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .records import Frozen, Page

# Fields that name the members of a list, so that lists are compared by member and not by place.
_NAMES = ("probe", "site", "specialist", "feature", "label", "kind", "name", "index")
# These differ between any two records and say nothing of the decision.
_ALWAYS = frozenset(
    {"id", "thread_id", "parent_id", "created_at", "closed_at", "sequence", "prev_hash", "row_hash"}
)
_ALWAYS_TIMED = frozenset({"timings", "first_token_ms"})


class Difference(Frozen):
    """One field that differs, by its path; None on the side that lacks it. Values are JSON values."""

    path: str
    left: Any
    right: Any


def differences(left: Page, right: Page, every: bool = False) -> tuple[Difference, ...]:
    """Compare two pages field by field, lists by the names of their members.

    Ids, times, timings and places in the chain are left out unless `every`.
    """
    one, two = dict(_leaves(left, every)), dict(_leaves(right, every))
    return tuple(
        Difference(path=path, left=one.get(path), right=two.get(path))
        for path in dict.fromkeys([*one, *two])
        if one.get(path) != two.get(path)
    )


def _leaves(page: Page, every: bool) -> Iterator[tuple[str, Any]]:
    skip = frozenset() if every else _ALWAYS | _ALWAYS_TIMED
    return _walk(page.model_dump(mode="json"), "", skip)


def _walk(value: Any, path: str, skip: frozenset[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in skip:
                yield from _walk(inner, f"{path}.{key}" if path else key, skip)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{_member(inner, place)}]", skip)
    else:
        yield path, value


def _member(item: Any, place: int) -> str:
    if not isinstance(item, dict):
        return str(place)
    names = [
        str(item[key]) for key in _NAMES if item.get(key) is not None and not isinstance(item[key], dict)
    ]
    return "/".join(names) or str(place)
