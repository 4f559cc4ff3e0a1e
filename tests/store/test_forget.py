"""Erasing: the texts go, everywhere; the rows and the chain stay; the answer tells the truth."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.store.audit import Audit, Filter
from pilothouse.store.errors import NotFoundError, UsageError
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Part, Request

Ask = Callable[..., Request]


def _found(audit: Audit, words: str) -> list[str]:
    return [row.id for row in audit.summaries(Filter(text=words))]


def test_a_forgotten_text_is_gone_from_every_byte(
    ledger: Ledger, audit: Audit, ask: Ask, log: Path, part: Part
) -> None:
    secret = part.model_copy(update={"prompt": "my zanzibarium", "answer": "your quixotrope"})
    keeper = ledger.begin(ask("something else"))
    record_id = ledger.begin(ask("tell me of zanzibarium", "an earlier flumadiddle", "a reply"))
    ledger.finish(record_id, "failed", parts=[secret], answer="the quixotrope", error="choked on zanzibarium")
    assert _found(audit, "zanzibarium") == [record_id]
    erased = ledger.forget(record_id=record_id, reason="by request")
    assert (erased.records, erased.texts_erased, erased.texts_shared) == ((record_id,), 8, 0)
    assert erased.scrubbed
    for word in ("zanzibarium", "quixotrope", "flumadiddle"):
        assert _found(audit, word) == []
        for file in log.parent.iterdir():
            assert word.encode() not in file.read_bytes(), (word, file)
    page = audit.page(record_id)
    assert (page.prompt, page.answer, page.messages, page.record.error) == (None, None, (), None)
    assert (page.record.parts[0].prompt, page.record.parts[0].hops[0].answer) == (None, None)
    assert page.erased_reason == "by request"
    assert page.record.parts[0].decision == part.decision  # the decision still stands
    assert audit.page(keeper).prompt == "something else"
    assert audit.verify().ok


def test_a_text_that_another_record_holds_stays_for_it(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    thread = {"thread_id": "t" * 32}
    first = ledger.begin(ask("who wrote Hamlet?", **thread))
    ledger.finish(first, "completed", answer="Shakespeare")
    second = ledger.begin(ask("when?", "who wrote Hamlet?", "Shakespeare", **thread))
    ledger.finish(second, "completed", answer="about 1600")
    erased = ledger.forget(record_id=first)
    assert (erased.texts_erased, erased.texts_shared, erased.shared_with) == (0, 2, (second,))
    assert audit.page(first).prompt is None
    assert len(audit.page(second).messages) == 3
    assert _found(audit, "Hamlet") == [second]
    everything = ledger.forget(thread_id="t" * 32)
    assert set(everything.records) == {first, second}
    assert everything.texts_shared == 0
    assert _found(audit, "Hamlet") == []
    assert audit.verify().ok


def test_an_answer_finished_after_forgetting_is_not_kept(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    record_id = ledger.begin(ask("hello"))
    ledger.forget(record_id=record_id)
    ledger.finish(record_id, "completed", answer="perambulate")
    assert audit.page(record_id).record.status == "completed"
    assert _found(audit, "perambulate") == []
    assert audit.verify().ok


def test_a_text_asked_again_after_forgetting_is_kept_anew(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    old = ledger.begin(ask("hello there"))
    ledger.forget(record_id=old)
    new = ledger.begin(ask("hello there"))
    assert audit.page(old).prompt is None
    assert audit.page(new).prompt == "hello there"
    assert _found(audit, "hello") == [new]
    assert audit.verify().ok


def test_forgetting_what_is_not_there_is_an_error(ledger: Ledger, ask: Ask) -> None:
    with pytest.raises(NotFoundError, match="no record"):
        ledger.forget(record_id="nobody")
    with pytest.raises(NotFoundError, match="no thread"):
        ledger.forget(thread_id="nowhere")
    with pytest.raises(UsageError, match="either a record or a thread"):
        ledger.forget()


def test_a_busy_reader_is_told(log: Path, ledger: Ledger, audit: Audit, ask: Ask) -> None:
    record_id = ledger.begin(ask("hello"))
    reader = audit.pages()
    next(reader)
    try:
        erased = ledger.forget(record_id=record_id)
        assert not erased.scrubbed
    finally:
        reader.close()
    assert audit.page(record_id).prompt is None
