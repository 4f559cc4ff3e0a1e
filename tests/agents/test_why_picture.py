"""The picture of a decision is a whole SVG that fetches nothing and lets no prompt draw."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from pilothouse.agents.causal import Why
from pilothouse.agents.cli.whypage import picture
from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Message, Request

HOSTILE = "<script>alert(1)</script>\x1b[31m & co"


def test_a_picture_is_well_formed_and_escapes_what_was_typed(tmp_path: Path) -> None:
    place = tmp_path / "log.db"
    with Ledger.open(place) as ledger:
        record = ledger.begin(Request(messages=(Message(role="user", content=HOSTILE),)))
        ledger.finish(record, "completed", answer="fine")
    with Audit.open(place) as audit:
        drawn = picture(Why(page=audit.page(record)))
    root = ElementTree.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert "<script" not in drawn
    assert "\x1b" not in drawn
    assert "url(http" not in drawn
    assert "alert(1)" in "".join(root.itertext())
