"""Hostile text, made safe to print."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.store.printable import json_text, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext é 漢", "plain\n\ttext é 漢"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\x9b31m\x7f\r", "\\x9b31m\\x7f\\x0d"),
        ("\u2028\udc80", "\\u2028\\udc80"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(st.characters()))
def test_nothing_hostile_is_left(text: str) -> None:
    shown = visible(text, keep="")
    assert all(unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert "\n" not in one_line(text, 20)
    assert len(one_line(text, 20)) <= 20


@given(st.text(st.characters()))
def test_json_is_exact_and_harmless(text: str) -> None:
    told = json_text({"text": text})
    assert json.loads(told) == {"text": text}
    assert visible(told, keep="") == told
