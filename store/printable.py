"""Make hostile text safe to print: a prompt may hold escape sequences that repaint a terminal."""

from __future__ import annotations

import unicodedata

# Control characters, lone surrogates, line and paragraph separators.
_HOSTILE = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Marks that reorder the text around them (Unicode TR 9).
_REORDERING = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))


def visible(text: str, keep: str = "\n\t") -> str:
    r"""Return `text` with control and reordering characters written out (`\x1b`, `\u202e`), save those in
    `keep`.
    """
    return "".join(char if char in keep or not _hostile(char) else _written(char) for char in text)


def one_line(text: str, width: int) -> str:
    """Return `text` as one printable line of at most `width` characters, cut with an ellipsis."""
    line = visible(" ".join(text[: 4 * width].split()), keep="")
    return line if len(line) <= width else line[: width - 1] + "…"


def _hostile(char: str) -> bool:
    return char in _REORDERING or unicodedata.category(char) in _HOSTILE


def _written(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
