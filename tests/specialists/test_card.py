"""Cards and the TOML they are written in survive a round trip, whatever stands in them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.specialists.card import Card, Source
from pilothouse.specialists.toml import dumps
from pilothouse.store.errors import ArtifactError

TEXT = st.text(st.characters(codec="utf-8"))
PLAIN = st.one_of(TEXT, st.integers(-(2**60), 2**60), st.booleans(), st.floats(allow_nan=False))


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    tables = st.lists(st.dictionaries(TEXT, inner, max_size=2), min_size=1, max_size=2)
    return st.one_of(st.dictionaries(TEXT, inner, max_size=3), tables)


VALUES = st.recursive(st.one_of(PLAIN, st.lists(TEXT, max_size=3)), nested, max_leaves=8)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_toml_reads_back(value: dict[str, object]) -> None:
    assert tomllib.loads(dumps(value)) == value


def test_cards_read_back(tmp_path: Path) -> None:
    card = Card(
        name="words",
        kind="adapter",
        title='Wörter "quoted"',
        description="a\tb\x7f",
        examples=("plural of ox",),
        data=(Source(name="d", licence="MIT"),),
        metrics={"exact": 0.5, "test": {"plural": 0.25}},
        parent_sha256="a" * 64,
    )
    card.save(tmp_path / "words")
    assert Card.load(tmp_path / "words") == card


@pytest.mark.parametrize(
    "bad", [{"name": "Up"}, {"name": ".."}, {"kind": "other"}, {"max_tokens": 0}, {"parent_sha256": "x"}]
)
def test_bad_cards_are_refused(tmp_path: Path, bad: dict[str, object]) -> None:
    good = {"name": "words", "kind": "adapter", "title": "t", "description": "d"}
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "card.toml").write_text(dumps(good | bad))
    with pytest.raises(ArtifactError, match=next(iter(bad))):
        Card.load(tmp_path / "words")
