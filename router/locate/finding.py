"""What a method found: a ranked, named list of objects, and grids to draw; saved as JSON and safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...store.errors import ArtifactError, UsageError
from ..files import head_field, read_json, read_tensors, write_json, write_tensors
from .place import Place

HEAD, BODY = "finding.json", "finding.safetensors"


class Found(NamedTuple):
    """An object and its score; `note` says more in words."""

    name: str
    score: float
    note: str = ""

    @property
    def place(self) -> Place:
        """The place that the name names. Raises UsageError for names of something else (an edge, a layer
        band).
        """
        return Place.parse(self.name)


@dataclass(frozen=True, eq=False)
class Grid:
    """Numbers to draw as a heat map: `values` [R,C] under row and column names, `texts` to show in the
    cells.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Tensor
    texts: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if tuple(self.values.shape) != (len(self.rows), len(self.columns)):
            raise UsageError(
                f"grid {self.title!r} is {list(self.values.shape)} under {len(self.rows)} rows and "
                f"{len(self.columns)} columns; they must be the same"
            )


@dataclass(frozen=True, eq=False)
class Finding:
    """The result of a method: objects best first, what their score is, single facts, grids and tensors."""

    method: str
    score: str
    found: tuple[Found, ...]
    facts: Mapping[str, float | int | str] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def places(self) -> list[Place]:
        """The places of all objects, best first."""
        return [one.place for one in self.found]

    def save(self, folder: Path | str) -> Path:
        """Write `finding.json` and, where there are numbers to keep, `finding.safetensors`; return the
        first.
        """
        folder = Path(folder)
        head = {
            "method": self.method,
            "score": self.score,
            "fingerprint": self.fingerprint,
            "facts": dict(self.facts),
            "found": [list(one) for one in self.found],
            "grids": [
                {"title": g.title, "rows": g.rows, "columns": g.columns, "texts": g.texts} for g in self.grids
            ],
        }
        body = {f"grid.{i}": grid.values.clone() for i, grid in enumerate(self.grids)} | dict(self.tensors)
        if body:
            write_tensors(folder / BODY, body)
        write_json(folder / HEAD, head)
        return folder / HEAD

    @classmethod
    def load(cls, folder: Path | str) -> Finding:
        """Read a finding. Raises ArtifactError when a file is missing, damaged, or does not fit the other."""
        path = Path(folder) / HEAD
        head = read_json(path)
        grids: list[dict[str, Any]] = head_field(head, "grids", path)
        names = tuple(f"grid.{i}" for i in range(len(grids)))
        body_path = Path(folder) / BODY
        body = read_tensors(body_path, names) if grids or body_path.exists() else {}
        try:
            return cls(
                head_field(head, "method", path),
                head_field(head, "score", path),
                tuple(Found(str(a), float(b), str(c)) for a, b, c in head_field(head, "found", path)),
                head_field(head, "facts", path),
                tuple(
                    Grid(
                        g["title"],
                        tuple(g["rows"]),
                        tuple(g["columns"]),
                        body.pop(name),
                        tuple(map(tuple, g["texts"])),
                    )
                    for name, g in zip(names, grids, strict=True)
                ),
                body,
                str(head.get("fingerprint", "")),
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise ArtifactError(f"{path} is no finding ({error}); locate again") from error


def ranked(
    scores: Mapping[Place, float], top: int | None = None, notes: Mapping[Place, str] | None = None
) -> tuple[Found, ...]:
    """Order places by score, highest first (ties by name); raises UsageError when a score is not a number."""
    wrong = [place.name for place, score in scores.items() if not math.isfinite(score)]
    if wrong:
        raise UsageError(f"the score of {wrong[0]} is not finite; look for an overflow in the forward pass")
    order = sorted(scores, key=lambda place: (-scores[place], place.name))[:top]
    said = notes or {}
    return tuple(Found(place.name, scores[place], said.get(place, "")) for place in order)


def layer_names(count: int, start: int = 0) -> tuple[str, ...]:
    """L0, L1, …"""
    return tuple(f"L{i}" for i in range(start, start + count))


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of one shape."""
    return torch.stack(list(parts)).mean(0)
