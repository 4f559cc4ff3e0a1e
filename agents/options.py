"""What may be said with a prompt, by name: one list for every way to ask."""

from __future__ import annotations

from typing import TypedDict

from .voyage import Steer


class Options(TypedDict, total=False):
    """How a prompt is answered. What is left out is the pilot's own.

    `max_tokens`: the longest answer. `temperature` 0 is greedy; `seed` makes draws repeatable. `steer`: the
    caller's word on steering. `parent_id`: the record that this one retries. `remember` off leaves the thread
    as it was (the log keeps its row all the same). `person`: whose request it is, in the caller's own words;
    the log can forget a person.
    """

    max_tokens: int | None
    temperature: float
    seed: int
    steer: Steer | None
    parent_id: str | None
    remember: bool
    person: str | None
