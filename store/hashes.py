"""Canonical JSON and the hash chain over the log's rows.

row_hash = SHA-256(prev_hash + canonical JSON of the row), the first row's prev_hash being 64 zeros. A
change to any earlier row changes every later hash, so a tip stored elsewhere vouches for the whole log.
Whoever can write the file can rebuild a chain from its start: the log is tamper-evident against a known
tip, not tamper-proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

GENESIS = "0" * 64
# What a row's hash covers: every column but the two hashes.
SEALED = ("sequence", "kind", "record_id", "thread_id", "created_at", "status", "specialists", "payload")


def canonical(value: Any) -> str:
    """Return the one JSON text of a plain value: sorted keys, no spaces. Raises ValueError for NaN and
    infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(text: str) -> str:
    """Return the SHA-256 of `text` in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def seal(prev_hash: str, row: Mapping[str, Any]) -> str:
    """Return the hash that binds `row` (its `SEALED` columns) to the row before it."""
    return digest(prev_hash + canonical({name: row[name] for name in SEALED}))


def storable(text: str) -> str:
    r"""Return `text` with lone surrogates, which no UTF-8 file can hold, written as `\udcxx`."""
    return text.encode("utf-8", "backslashreplace").decode()
