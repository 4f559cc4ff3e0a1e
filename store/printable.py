"""Make hostile text safe to print: a prompt may hold escape sequences that repaint a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

# Above ASCII: control characters, marks that reorder the text around them (Unicode TR 9), line and paragraph
# separators, lone surrogates. Their code points, because a linter and a reader should see them.
_BEYOND = r"\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_HOSTILE = re.compile(rf"[\u0000-\u001f{_BEYOND}]")
_HOSTILE_IN_JSON = re.compile(f"[{_BEYOND}]")  # JSON escapes the rest itself


def visible(text: str, keep: str = "\n\t") -> str:
    r"""Return `text` with control and reordering characters written out (`\x1b`, `\u202e`), save those in
    `keep`."""
    return _HOSTILE.sub(lambda found: found[0] if found[0] in keep else _written(found[0]), text)


def one_line(text: str, width: int) -> str:
    """Return `text` as one printable line of at most `width` characters, cut with an ellipsis."""
    line = visible(" ".join(text[: 4 * width].split()), keep="")
    return line if len(line) <= width else line[: width - 1] + "…"


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON that is readable in any script and holds no hostile character as it is."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _HOSTILE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _written(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
