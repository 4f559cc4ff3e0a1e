"""Keeping the log by law: people, redaction, retention. On both databases."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from pilothouse.store.audit import Audit, Filter
from pilothouse.store.errors import NotFoundError, StoreRedactionError, UsageError
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Outcome, Part, Request
from pilothouse.store.retention import Limits
from pilothouse.store.tables import content, events, people

Ask = Callable[..., Request]
OLD = "2020-01-01T00:00:00.000000Z"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set the time that rows are stamped with."""

    def set_to(moment: str) -> None:
        monkeypatch.setattr("pilothouse.store.payloads.utc_now", lambda: moment)

    return set_to


def _texts(audit: Audit) -> set[str]:
    with audit.reading() as connection:
        return set(connection.scalars(select(content.c.text)))


def _answer(ledger: Ledger, request: Request, answer: str) -> str:
    record_id = ledger.begin(request)
    ledger.finish(record_id, "completed", answer=answer)
    return record_id


def test_a_person_is_forgotten_whole(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    hers = [_answer(ledger, ask(f"ask {n}", person="ada@example.org"), f"told {n}") for n in range(3)]
    ledger.note(Outcome(record_id=hers[0], source="user", verdict="down", note="call me at home"))
    his = _answer(ledger, ask("ask 1", person="bob"), "told him")
    assert {row.id for row in audit.summaries(Filter(person="ada@example.org"))} == set(hers)
    assert audit.page(hers[0]).outcomes[0].note == "call me at home"
    with audit.reading() as connection:  # whose it is does not enter the chain, from which nothing can go
        payloads = "".join(connection.scalars(select(events.c.payload)))
    assert "ada@example.org" not in payloads
    erased = ledger.forget(person="ada@example.org", reason="by request")
    assert set(erased.records) == set(hers)
    assert (erased.texts_erased, erased.texts_shared, erased.shared_with) == (6, 1, (his,))
    assert _texts(audit) == {"ask 1", "told him"}
    assert audit.page(hers[0]).outcomes[0].note == ""
    assert audit.summaries(Filter(person="ada@example.org")) == []
    with audit.reading() as connection:
        assert list(connection.scalars(select(people.c.person))) == ["bob"]
    assert audit.page(his).prompt == "ask 1"
    assert audit.verify().ok
    with pytest.raises(NotFoundError, match="no person"):
        ledger.forget(person="ada@example.org")


def test_texts_are_changed_before_they_are_written(where: str, ask: Ask, part: Part) -> None:
    def hide_names(text: str) -> str:
        return text.replace("Ada", "somebody")

    secret = part.model_copy(update={"prompt": "card 4111 1111", "answer": "thanks, Ada"})
    with Ledger.open(where, code="test", redact=hide_names, patterns=[r"\d{4} \d{4}"]) as ledger:
        record_id = ledger.begin(ask("Ada's card is 4111 1111", "I am Ada", "hello"))
        ledger.finish(
            record_id, "failed", parts=[secret], answer="noted, Ada", error="card 4111 1111 refused"
        )
        ledger.note(Outcome(record_id=record_id, source="user", verdict="up", note="Ada liked it"))
        plain = _answer(ledger, ask("nothing to hide"), "indeed")
    with Audit.open(where) as audit:
        everything = " ".join(_texts(audit)) + audit.page(record_id).model_dump_json()
        assert not re.search(r"Ada|(?<![\w.])4111(?!\w)", everything)
        page = audit.page(record_id)
        assert page.prompt == "somebody's card is [redacted]"
        assert page.record.error == "card [redacted] refused"
        assert page.outcomes[0].note == "somebody liked it"
        assert (page.redacted, audit.page(plain).redacted) == (True, False)
        assert audit.verify().ok


@pytest.mark.parametrize("hook", [lambda text: 1 / 0, lambda text: None], ids=["fails", "returns nothing"])
def test_what_cannot_be_redacted_is_not_written(where: str, ask: Ask, hook: Callable[[str], str]) -> None:
    with Ledger.open(where, code="test", redact=hook) as ledger:
        with pytest.raises(StoreRedactionError, match="nothing was written") as caught:
            ledger.begin(ask("a private matter"))
        assert "private" not in str(caught.value)
    with Audit.open(where) as audit:
        assert audit.summaries() == []


@pytest.mark.parametrize("pattern", ["(", "x*"])
def test_patterns_that_cannot_be_meant(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="redaction pattern"):
        Ledger.open(tmp_path / "log.db", patterns=[pattern])


@pytest.fixture
def aged(ledger: Ledger, ask: Ask, clock: Callable[[str], None]) -> dict[str, str]:
    """A record of each year; the last two share their prompt."""
    names = {}
    for year, prompt in (("2021", "first"), ("2022", "second"), ("2023", "same"), ("2024", "same")):
        clock(f"{year}-06-01T00:00:00.000000Z")
        names[year] = _answer(ledger, ask(prompt, person=f"of {year}"), f"told in {year}")
    return names


def test_texts_go_before_rows(ledger: Ledger, audit: Audit, aged: dict[str, str]) -> None:
    tip = audit.verify().tip
    limits = Limits(texts_before="2024-01-01T00:00:00.000000Z", rows_before="2022-01-01T00:00:00.000000Z")
    planned = ledger.retain(limits, dry_run=True)
    assert audit.verify().tip == tip  # a dry run changes nothing
    done = ledger.retain(limits, reason="our rule")
    for found in (planned, done):
        # `same` stays for the record of 2024
        assert (found.records_bared, found.texts_erased, found.rows_pruned) == (3, 5, 2)
    assert _texts(audit) == {"same", "told in 2024"}
    assert [row.id for row in audit.summaries()] == [aged["2024"], aged["2023"], aged["2022"]]
    bare = audit.page(aged["2023"])
    assert (bare.prompt, bare.answer, bare.erased_reason) == (None, None, "our rule")
    assert bare.record.status == "completed"
    assert audit.page(aged["2024"]).prompt == "same"
    with pytest.raises(NotFoundError):
        audit.page(aged["2021"])
    with audit.reading() as connection:
        assert list(connection.scalars(select(people.c.person))) == ["of 2024"]
    found = audit.verify(tip)
    assert (found.ok, found.pruned, found.rows) == (True, 2, 10)
    assert audit.summaries(Filter(text="first")) == []
    with pytest.raises(UsageError, match="note a newer tip"):
        audit.verify(f"1:{'0' * 64}")


def test_retention_goes_on_and_repeats(ledger: Ledger, audit: Audit, aged: dict[str, str], ask: Ask) -> None:
    for year in ("2022", "2023", "2024", "2024"):
        ledger.retain(Limits(None, f"{year}-01-01T00:00:00.000000Z"))
        assert audit.verify().ok
    assert [row.id for row in audit.summaries()] == [aged["2024"]]
    again = ledger.retain(Limits(None, "2024-01-01T00:00:00.000000Z"))
    assert (again.rows_pruned, audit.verify().pruned) == (0, 6)
    _answer(ledger, ask("life goes on"), "it does")
    assert audit.verify().ok


def test_a_run_that_was_stopped_verifies_and_is_finished_later(
    ledger: Ledger, audit: Audit, aged: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilothouse.store import retention

    monkeypatch.setattr(retention, "STEP", 1)
    steps = iter(range(4))

    def work(job: Callable[..., object]) -> object:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return ledger._writer.submit(job).result()

    limits = Limits(None, "2023-01-01T00:00:00.000000Z")
    with pytest.raises(KeyboardInterrupt):
        retention.retain(work, limits, "stopped", dry_run=False)
    assert audit.verify().ok
    ledger.retain(limits)
    assert (audit.verify().ok, audit.verify().pruned) == (True, 4)
    assert [row.id for row in audit.summaries()] == [aged["2024"], aged["2023"]]


def test_an_open_record_keeps_the_rows_from_its_own_on(
    ledger: Ledger, audit: Audit, ask: Ask, clock: Callable[[str], None]
) -> None:
    clock(OLD)
    _answer(ledger, ask("done"), "yes")
    waiting = ledger.begin(ask("still open"))
    done = ledger.retain(Limits(None, "2021-01-01T00:00:00.000000Z"))
    assert done.rows_pruned == 2
    ledger.finish(waiting, "completed", answer="late")
    assert audit.page(waiting).record.status == "completed"
    assert audit.verify().ok


def test_a_clock_that_was_wrong_lets_less_go_not_more(
    ledger: Ledger, audit: Audit, ask: Ask, clock: Callable[[str], None]
) -> None:
    clock("2030-01-01T00:00:00.000000Z")
    _answer(ledger, ask("from the future"), "x")
    clock(OLD)
    _answer(ledger, ask("stamped too old"), "y")
    assert ledger.retain(Limits("2021-01-01T00:00:00.000000Z", None)).texts_erased == 0
    assert len(_texts(audit)) == 4


def test_rows_taken_without_a_word_are_found(ledger: Ledger, audit: Audit, aged: dict[str, str]) -> None:
    ledger.retain(Limits(None, "2022-01-01T00:00:00.000000Z"))
    with ledger._engine.begin() as connection:  # more than was said: seals must come off for that
        where = "" if ledger.place.path is not None else " ON events"
        connection.exec_driver_sql(f"DROP TRIGGER events_stay{where}")
        connection.exec_driver_sql(f"DROP TRIGGER events_keep{where}")
        connection.exec_driver_sql("DELETE FROM events WHERE sequence = 3")
    broken = audit.verify().broken
    assert broken is not None
    assert broken.sequence == 4


def test_seals_hold_beyond_what_retention_said(ledger: Ledger, aged: dict[str, str]) -> None:
    from sqlalchemy.exc import DBAPIError

    ledger.retain(Limits(None, "2022-01-01T00:00:00.000000Z"))
    with pytest.raises(DBAPIError, match="append-only"), ledger._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM events WHERE sequence = 3")


@pytest.mark.parametrize("limits", [Limits(None, None), Limits(OLD, "2021-01-01T00:00:00.000000Z")])
def test_limits_that_cannot_be_meant(ledger: Ledger, limits: Limits) -> None:
    with pytest.raises(UsageError):
        ledger.retain(limits)
