"""Write TOML: the few shapes that family.toml and card.toml use (the standard library only reads it)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def dumps(value: Mapping[str, Any]) -> str:
    """Return `value` as TOML; None is left out, tables come after plain keys."""
    return "\n".join(_table(value, ())) + "\n"


def _table(value: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {k: v for k, v in value.items() if v is not None and not _nested(v)}
    lines = [f"{_key(k)} = {_value(v)}" for k, v in plain.items()]
    for key, inner in value.items():
        if not _nested(inner):
            continue
        name = ".".join(map(_key, (*path, key)))
        for one in [inner] if isinstance(inner, Mapping) else inner:
            head = f"[{name}]" if isinstance(inner, Mapping) else f"[[{name}]]"
            lines += ["", head, *_table(one, (*path, key))]
    return lines


def _nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no place in a family's TOML files")
