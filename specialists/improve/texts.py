"""Token rows of a data set: what calibration, damage and neutral losses are measured on."""

from __future__ import annotations

from ...store.errors import UsageError
from ..tokenizing import ChatCodec
from .data import Data


def token_rows(codec: ChatCodec, data: Data, rows: int, length: int) -> list[tuple[int, ...]]:
    """Encode the first `rows` rows, each cut to `length` tokens: the column `text`, or prompt and answer as a
    turn of a chat. Rows of fewer than two tokens are left out.

    Raises:
        UsageError: the data has neither, or no row that is long enough.
    """
    found = []
    for row in data.rows:
        if "text" in row:
            ids = codec.encode_text(row["text"])
        elif "prompt" in row and "answer" in row:
            answer = (*codec.invocation, *codec.encode_answer(row["answer"]))
            ids = (*codec.encode_prompt(row["prompt"]), *answer)
        else:
            data.require(("text",))
            continue
        if len(ids) > 1:
            found.append(tuple(ids[:length]))
        if len(found) == rows:
            break
    if not found:
        raise UsageError(f"data {data.name!r} has no row of two tokens or more: give text to measure on")
    return found
