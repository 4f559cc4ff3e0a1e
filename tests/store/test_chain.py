"""Planted tampering: whatever is changed behind the program's back, `verify` finds it and names the place."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import RowMapping, select

from pilothouse.store.audit import Audit
from pilothouse.store.errors import UsageError
from pilothouse.store.hashes import GENESIS, SEALED, seal, seal_plainly
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Artifact, Outcome, Request
from pilothouse.store.tables import events

Tamper = Callable[[str], None]


@pytest.fixture
def filled(ledger: Ledger, ask: Callable[..., Request], weights: Artifact) -> list[str]:
    """Four records: eight rows, and an outcome as the ninth."""
    names = []
    for number in range(4):
        names.append(ledger.begin(ask(f"prompt {number}")))
        ledger.finish(names[-1], "completed", answer=f"answer {number}", artifacts=[weights])
    ledger.note(Outcome(record_id=names[0], source="user", verdict="up"))
    return names


@pytest.fixture
def tamper(ledger: Ledger) -> Tamper:
    """Change the log as somebody with the database and ill will would: seals off first."""
    on_sqlite = ledger.place.path is not None

    def run(statement: str) -> None:
        with ledger._engine.begin() as connection:
            for trigger in ("events_keep", "events_stay"):
                where = "" if on_sqlite else " ON events"
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}{where}")
            connection.exec_driver_sql(statement)

    return run


def _rows(audit: Audit) -> list[RowMapping]:
    with audit.reading() as connection:
        return list(connection.execute(select(events).order_by(events.c.sequence)).mappings())


words = st.text(st.characters(codec="utf-8"), max_size=30)


@given(st.fixed_dictionaries({name: words if name != "sequence" else st.integers(0) for name in SEALED}))
@settings(max_examples=200, deadline=None)
def test_the_quick_seal_is_the_plain_one(row: dict[str, Any]) -> None:
    assert seal(GENESIS, row) == seal_plainly(GENESIS, row)


def test_an_untouched_log_verifies(filled: list[str], audit: Audit) -> None:
    found = audit.verify()
    assert (found.ok, found.rows, found.records, found.texts, found.broken) == (True, 9, 4, 8, None)
    assert found.tip.startswith("9:")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "'outcome'"),
        ("record_id", "'0123456789'"),
        ("thread_id", "'another'"),
        ("created_at", "'2020-01-01T00:00:00.000000Z'"),
        ("status", "'failed'"),
        ("specialists", "',facts,'"),
        ("payload", "replace(payload, 'artifacts', 'artefacts')"),
        ("prev_hash", f"'{'a' * 64}'"),
        ("row_hash", f"'{'b' * 64}'"),
        ("sequence", "104"),
    ],
)
def test_every_changed_field_is_found(
    filled: list[str], audit: Audit, tamper: Tamper, column: str, value: str
) -> None:
    tamper(f"UPDATE events SET {column} = {value} WHERE sequence = 4")
    broken = audit.verify().broken
    assert broken is not None
    # a row moved away leaves a gap before the next one
    assert broken.sequence == (5 if column == "sequence" else 4)


def test_a_row_changed_with_its_hash_breaks_the_next_one(
    filled: list[str], audit: Audit, tamper: Tamper
) -> None:
    tamper("UPDATE events SET status = 'failed' WHERE sequence = 4")
    row = _rows(audit)[3]
    tamper(f"UPDATE events SET row_hash = '{seal(row['prev_hash'], row)}' WHERE sequence = 4")
    broken = audit.verify().broken
    assert broken is not None
    assert broken.sequence == 5
    assert "does not follow" in broken.reason


def test_a_removed_row_is_found(filled: list[str], audit: Audit, tamper: Tamper) -> None:
    tamper("DELETE FROM events WHERE sequence = 3")
    broken = audit.verify().broken
    assert broken is not None
    assert (broken.sequence, broken.reason) == (4, "row 3 is missing before it")


def test_exchanged_rows_are_found(filled: list[str], audit: Audit, tamper: Tamper) -> None:
    tamper("UPDATE events SET sequence = -4 WHERE sequence = 4")
    tamper("UPDATE events SET sequence = 4 WHERE sequence = 6")
    tamper("UPDATE events SET sequence = 6 WHERE sequence = -4")
    broken = audit.verify().broken
    assert broken is not None
    assert broken.sequence == 4


def test_a_changed_text_is_found(filled: list[str], audit: Audit, tamper: Tamper) -> None:
    tamper("UPDATE content SET text = 'answer 99' WHERE text = 'answer 1'")
    broken = audit.verify().broken
    assert broken is not None
    assert "was changed" in broken.reason
    assert broken.record_id == filled[1]


def test_a_text_that_vanished_without_an_erasure_is_found(
    filled: list[str], audit: Audit, tamper: Tamper
) -> None:
    tamper("DELETE FROM content WHERE text = 'prompt 2'")
    broken = audit.verify().broken
    assert broken is not None
    assert "no row says that it was erased" in broken.reason
    assert broken.record_id == filled[2]


@pytest.mark.parametrize("statement", ["UPDATE artifacts SET name = 'facts'", "DELETE FROM artifacts"])
def test_a_changed_artifact_list_is_found(
    filled: list[str], audit: Audit, tamper: Tamper, statement: str
) -> None:
    tamper(statement)
    broken = audit.verify().broken
    assert broken is not None
    assert "artifact" in broken.reason


def test_rows_cut_off_the_end_need_a_noted_tip(filled: list[str], audit: Audit, tamper: Tamper) -> None:
    tip = audit.verify().tip
    assert audit.verify(tip).ok
    tamper("DELETE FROM events WHERE sequence > 7")
    tamper("DELETE FROM content WHERE text = 'answer 3'")
    assert audit.verify().ok  # the honest limit of any chain
    broken = audit.verify(tip).broken
    assert broken is not None
    assert broken.reason == "the log ends at row 7, the noted tip is row 9"


def test_a_chain_rebuilt_from_its_start_needs_a_noted_tip(
    filled: list[str], audit: Audit, tamper: Tamper
) -> None:
    tip = audit.verify().tip
    tamper("UPDATE events SET status = 'failed' WHERE sequence = 2")
    tamper("UPDATE listing SET status = 'failed' WHERE sequence = 1")
    before = GENESIS
    for row in _rows(audit):
        after = seal(before, row)
        place = f"WHERE sequence = {row['sequence']}"
        tamper(f"UPDATE events SET prev_hash = '{before}', row_hash = '{after}' {place}")
        before = after
    assert audit.verify().ok
    broken = audit.verify(tip).broken
    assert broken is not None
    assert broken.sequence == 9
    assert "the noted tip says" in broken.reason


@pytest.mark.parametrize("tip", ["", "9", "nine:aa", f"9:{'g' * 64}", f"-1:{'0' * 64}"])
def test_an_unreadable_tip_is_a_usage_error(ledger: Ledger, audit: Audit, tip: str) -> None:
    with pytest.raises(UsageError, match="SEQUENCE:HASH"):
        audit.verify(tip)


def test_an_empty_log_verifies(ledger: Ledger, audit: Audit) -> None:
    found = audit.verify()
    assert (found.ok, found.tip) == (True, f"0:{GENESIS}")
    assert audit.verify(found.tip).ok
