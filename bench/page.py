"""A results page in Markdown: circumstances, targets met and missed, then one table a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .estimates import Estimate

Unit = Literal["%", "", "ms", "s", "×", "nats", "e"]
# `clearly above`: with the whole interval
Way = Literal["at least", "at most", "clearly above"]


@dataclass(frozen=True)
class Goal:
    """A target and what was found; `found` None means that it was not measured, and `note` says why."""

    what: str
    way: Way
    bound: float
    unit: Unit
    found: Estimate | None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the measured value reaches the target; None where nothing was measured."""
        if self.found is None or self.found.value != self.found.value:
            return None
        if self.way == "clearly above":
            return self.found.low > self.bound
        value = self.found.value
        return value >= self.bound if self.way == "at least" else value <= self.bound

    @property
    def verdict(self) -> str:
        """`met`, `**missed**` or `not measured`."""
        return {True: "met", False: "**missed**", None: "not measured"}[self.met]


@dataclass(frozen=True)
class Section:
    """A heading, what was done, a table, its targets, and pictures (file names beside the page)."""

    title: str
    text: str
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    goals: tuple[Goal, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole page."""

    title: str
    about: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...] = field(default=())

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The targets of all sections."""
        return tuple(goal for section in self.sections for goal in section.goals)

    @property
    def missed(self) -> tuple[Goal, ...]:
        """The targets that were measured and not reached."""
        return tuple(goal for goal in self.goals if goal.met is False)

    def markdown(self) -> str:
        """Return the page."""
        parts = [f"# {self.title}", self.about, table(("", ""), self.facts), *self._summary()]
        for section in self.sections:
            parts += _section(section)
        return "\n\n".join(part for part in parts if part) + "\n"

    def _summary(self) -> list[str]:
        if not self.goals:
            return []
        unmeasured = sum(goal.met is None for goal in self.goals)
        met = len(self.goals) - len(self.missed) - unmeasured
        line = (
            f"{met} of {len(self.goals)} targets met, {len(self.missed)} missed, {unmeasured} not measured."
        )
        header = ("target", "asked", "measured, 95 % interval", "n", "")
        return ["## Targets", line, table(header, [_goal_row(goal) for goal in self.goals])]


def _goal_row(goal: Goal) -> tuple[str, ...]:
    asked = f"{goal.way} {show(goal.bound, goal.unit)}"
    if goal.found is None:
        return goal.what, asked, goal.note or "–", "", goal.verdict
    return goal.what, asked, cell(goal.found, goal.unit), str(goal.found.n), goal.verdict


def _section(section: Section) -> list[str]:
    parts = [f"## {section.title}", section.text]
    if section.rows:
        parts.append(table(section.header, section.rows))
    parts += [f"![{words}]({name})" for name, words in section.pictures]
    if section.notes:
        parts.append("\n".join(f"* {note}" for note in section.notes))
    return parts


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Raises:
        ValueError: a row is not as long as the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"the row {row!r} has {len(row)} cells, the header {len(header)}")
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(escaped(c) for c in line) + " |" for line in lines)


def escaped(text: str) -> str:
    """Keep a text inside its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def show(value: float, unit: Unit) -> str:
    """Write a value in its unit; shares are given as 0..1 and shown in per cent."""
    if value != value:
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "e":
        return f"{value:.1e}"
    digits = {"": 3, "ms": 2, "s": 2, "×": 3, "nats": 3}[unit]
    return f"{value:.{digits}f}{unit if unit == '×' else f' {unit}' if unit else ''}"


def cell(found: Estimate | None, unit: Unit) -> str:
    """Write an estimate with its interval, `97.3 % [96.1, 98.4]`."""
    if found is None:
        return "–"
    low, high = (
        show(edge, unit).removesuffix(unit if unit != "e" else "").strip() for edge in (found.low, found.high)
    )
    return f"{show(found.value, unit)} [{low}, {high}]"


def signed(found: Estimate | None) -> str:
    """Write a difference of shares in percentage points, `+2.1 [0.4, 3.9]`; intervals beyond 0 stand out."""
    if found is None:
        return "–"
    text = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text
