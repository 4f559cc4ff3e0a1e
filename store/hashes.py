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

import orjson

GENESIS = "0" * 64
# What a row's hash covers: every column but the two hashes.
SEALED = ("sequence", "kind", "record_id", "thread_id", "created_at", "status", "specialists", "payload")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)
_quoted = json.encoder.encode_basestring


def canonical(value: Any) -> str:
    """Return the one JSON text of a plain value: sorted keys, no spaces. Raises ValueError for NaN and
    infinity.
    """
    return _ENCODER.encode(value)


def quick_canonical(value: Any) -> str:
    """Canonical JSON of a value known to be finite, several times faster.

    It differs from `canonical` in how a float's exponent is spelled (1e-7, 1e-07), so whoever hashes a value
    to find it again uses that; NaN, which that refuses, would become null.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits
        return canonical(value)


def digest(text: str) -> str:
    """Return the SHA-256 of `text` in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def seal(prev_hash: str, row: Mapping[str, Any]) -> str:
    """Return the hash that binds `row` (its `SEALED` columns) to the row before it."""
    # the canonical JSON of the eight, written out: every row of a long log comes through here
    text = (
        f'{prev_hash}{{"created_at":{_quoted(row["created_at"])},"kind":{_quoted(row["kind"])},'
        f'"payload":{_quoted(row["payload"])},"record_id":{_quoted(row["record_id"])},'
        f'"sequence":{int(row["sequence"])},"specialists":{_quoted(row["specialists"])},'
        f'"status":{_quoted(row["status"])},"thread_id":{_quoted(row["thread_id"])}}}'
    )
    return digest(text)


def seal_plainly(prev_hash: str, row: Mapping[str, Any]) -> str:
    """The same, as it is defined; a test holds the two against each other."""
    return digest(prev_hash + canonical({name: row[name] for name in SEALED}))


def storable(text: str) -> str:
    r"""Return `text` with lone surrogates, which no UTF-8 file can hold, written as `\udcxx`."""
    return text.encode("utf-8", "backslashreplace").decode()
