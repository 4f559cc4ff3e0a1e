"""A recipe's data sets: rows of text columns from a file, a folder, a hub id or a built-in generator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...store.errors import UsageError

Row = Mapping[str, str]


@dataclass(frozen=True)
class Data:
    """Rows of text, where they are from, under which licence, and one SHA-256 over all of it."""

    name: str
    rows: tuple[Row, ...]
    licence: str
    source: str
    sha256: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that every row has."""
        if not self.rows:
            return ()
        return tuple(c for c in self.rows[0] if all(c in row for row in self.rows))

    def require(self, columns: Sequence[str]) -> None:
        """Raise UsageError where a row lacks one of the columns."""
        lacking = [c for c in columns if c not in self.columns]
        if lacking:
            raise UsageError(
                f"data {self.name!r} ({self.source}) lacks the column {lacking[0]!r} in some row: "
                f"it has {', '.join(self.columns) or 'none in every row'}; name another in the recipe, or add it"
            )

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield (prompt, answer) of each row."""
        return ((row["prompt"], row["answer"]) for row in self.rows)
