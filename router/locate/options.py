"""What a method may be told besides the model and the prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Options:
    """`top` objects are returned. `kind` and `how` choose among what a method offers (None: its default).

    `layer` restricts methods that read one layer. `seed` draws controls. `other`: a second model, for methods
    that compare two. `limit`: how many candidates a costly method tries.
    """

    top: int = 50
    kind: str | None = None
    how: str | None = None
    layer: int | None = None
    seed: int = 0
    limit: int = 256
    other: Any = None
