"""Server-sent events, as OpenAI-compatible endpoints stream them: JSON after `data:`, the end as `[DONE]`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST = 1 << 20


class Broken(Exception):
    """The stream is not what it should be."""


def payloads(pieces: Iterable[bytes]) -> Iterator[Any]:
    """Return the JSON values of a stream of bytes, until `[DONE]` or its end.

    Raises Broken for a line that is too long, and for data that is no JSON.
    """
    for line in lines(pieces):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            yield json.loads(data)
        except ValueError as error:
            raise Broken(f"a line is no JSON: {data[:60]!r}") from error


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Return the lines of a stream of bytes, without ends. Raises Broken for one above `LONGEST` bytes."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if max(map(len, (*whole, rest))) > LONGEST:
            raise Broken(f"a line is longer than {LONGEST} bytes")
        yield from (line.rstrip(b"\r") for line in whole)
    if rest:
        yield rest.rstrip(b"\r")
