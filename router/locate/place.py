"""Names for what can be located: heads, neurons, attention channels, blocks, states."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from ...store.errors import UsageError

Kind = Literal["residual", "attention", "mlp", "head", "neuron", "channel", "embedding"]
_LETTER: dict[Kind, str] = {"head": "H", "neuron": "N", "channel": "A"}
_WORD: dict[Kind, str] = {"residual": "resid", "attention": "attn", "mlp": "mlp"}
_NAME = re.compile(r"(?:(embed)|L(\d+)\.(?:([HNA])(\d+)|(resid|attn|mlp)))(?:@(\d+))?")


class Place(NamedTuple):
    """An object in a model; `unit` and `position` are -1 where they say nothing.

    residual: the stream after `layer`. attention, mlp: what that half of the layer adds. head `unit` of H.
    neuron `unit` of F. channel: one of the H*d numbers that the heads hand to the output projection.
    """

    kind: Kind
    layer: int
    unit: int = -1
    position: int = -1

    @property
    def name(self) -> str:
        """`L3.H2`, `L3.N120`, `L3.A17@4`, `L3.attn`, `L3.mlp@7`, `L3.resid@5`, `embed@0`."""
        at = "" if self.position < 0 else f"@{self.position}"
        if self.kind == "embedding":
            return f"embed{at}"
        part = f"{_LETTER[self.kind]}{self.unit}" if self.kind in _LETTER else _WORD[self.kind]
        return f"L{self.layer}.{part}{at}"

    @classmethod
    def parse(cls, name: str) -> Place:
        """Read a name back. Raises UsageError for anything else."""
        found = _NAME.fullmatch(name)
        if found is None:
            raise UsageError(
                f"{name!r} names no place in a model; write L3.H2, L3.N120, L3.attn or L3.resid@5"
            )
        embed, layer, letter, unit, word, position = found.groups()
        at = -1 if position is None else int(position)
        if embed:
            return cls("embedding", -1, -1, at)
        if letter:
            kind = next(kind for kind, one in _LETTER.items() if one == letter)
            return cls(kind, int(layer), int(unit), at)
        return cls(next(kind for kind, one in _WORD.items() if one == word), int(layer), -1, at)

    def everywhere(self) -> Place:
        """The same object at all positions."""
        return self._replace(position=-1)
