"""The read side: lists and their filters, names, differences, counts, export."""

import io
import json
from collections.abc import Callable

import pytest

from pilothouse.store.audit import Audit, Filter
from pilothouse.store.errors import NotFoundError, UsageError
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Artifact, Generation, Outcome, Page, Part, Request, Timings

Ask = Callable[..., Request]


def _ids(audit: Audit, **wanted: object) -> list[str]:
    return [row.id for row in audit.summaries(Filter(**wanted))]  # type: ignore[arg-type]


def _answered(specialist: str, ms: float, tokens: int = 2) -> Part:
    timings = Timings(total_ms=ms)
    return Part(
        generation=Generation(
            specialist=specialist, completion_tokens=tokens, finish_reason="stop", timings=timings
        )
    )


@pytest.fixture
def filled(ledger: Ledger, ask: Ask) -> dict[str, str]:
    """Five records: one of each end, and one still open."""
    names = {}
    names["sum"] = ledger.begin(ask("What is 2 + 2?", thread_id="thread-a"))
    ledger.finish(names["sum"], "completed", parts=[_answered("arithmetic", 10)], answer="4")
    names["capital"] = ledger.begin(ask("Capital of Norway?", thread_id="thread-b"))
    parts = [_answered("facts", 20), _answered("fact", 40)]
    ledger.finish(names["capital"], "completed", parts=parts, answer="Oslo")
    names["refused"] = ledger.begin(ask("Write a 100% new opera_house", thread_id="thread-a"))
    ledger.finish(names["refused"], "abstained", answer="I cannot do that.")
    names["broken"] = ledger.begin(ask("Boom"))
    ledger.finish(names["broken"], "failed", error="engine stopped")
    names["open"] = ledger.begin(ask("Capital of Sweden?"))
    return names


def test_the_list_is_newest_first_and_goes_on(filled: dict[str, str], audit: Audit) -> None:
    order = list(reversed(filled.values()))
    assert _ids(audit) == order
    first = audit.summaries(limit=2)
    assert [row.id for row in first] == order[:2]
    assert [row.id for row in audit.summaries(limit=2, before=first[-1].id)] == order[2:4]


def test_filters(filled: dict[str, str], audit: Audit) -> None:
    name = filled
    assert _ids(audit, status="completed") == [name["capital"], name["sum"]]
    assert _ids(audit, status="in_progress") == [name["open"]]
    assert _ids(audit, specialist="fact") == [name["capital"]]
    assert _ids(audit, specialist="arith") == []  # a whole name, not a piece of one
    assert _ids(audit, specialist="%") == []
    assert _ids(audit, thread="thread-a") == [name["refused"], name["sum"]]
    assert _ids(audit, thread="thread-a", status="abstained") == [name["refused"]]
    moment = audit.page(name["capital"]).record.created_at
    assert _ids(audit, until=moment) == [name["sum"]]
    assert _ids(audit, since=moment)[-1] == name["capital"]
    assert _ids(audit, since=moment.replace("Z", "+00:00"))[-1] == name["capital"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("capital", ["open", "capital"]),
        ("CAPITAL of norway", ["capital"]),
        ("cap*", ["open", "capital"]),
        ("cap", []),
        ("oslo", ["capital"]),  # answers too
        ("engine", ["broken"]),  # and errors
        ('"', []),
        ("norway OR sweden", []),  # an operator of the search language is only a word
        ("norway) NEAR (", []),
        ("100%", ["refused"]),
    ],
)
def test_text_search(filled: dict[str, str], audit: Audit, words: str, found: list[str]) -> None:
    assert _ids(audit, text=words) == [filled[name] for name in found]


def test_names_may_be_short_but_not_ambiguous(filled: dict[str, str], audit: Audit) -> None:
    full = filled["capital"]
    assert audit.resolve(full) == audit.resolve(full[-8:]) == full
    assert audit.resolve("last") == filled["open"]
    with pytest.raises(UsageError, match="could mean"):
        audit.resolve(full[:6])
    with pytest.raises(UsageError, match="at least 4"):
        audit.resolve(full[:3])
    for name in ("zzzzzz", "%%%%", full + "0"):
        with pytest.raises(NotFoundError, match="no record"):
            audit.resolve(name)


def test_last_of_an_empty_log(ledger: Ledger, audit: Audit) -> None:
    with pytest.raises(NotFoundError, match="is empty"):
        audit.page("last")
    assert audit.summaries() == []
    assert audit.stats().records == 0


def test_the_tip_is_the_last_row(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    assert str(audit.tip()) == f"0:{'0' * 64}"
    ledger.begin(ask("What is 2 + 2?"))
    assert str(audit.tip()) == audit.verify().tip


def test_a_thread_reads_in_order(filled: dict[str, str], audit: Audit) -> None:
    assert [page.prompt for page in audit.thread("thread-a")] == [
        "What is 2 + 2?",
        "Write a 100% new opera_house",
    ]
    with pytest.raises(NotFoundError, match="no thread 'nowhere'"):
        audit.thread("nowhere")


def test_differences_are_named_by_member(ledger: Ledger, audit: Audit, ask: Ask, part: Part) -> None:
    weaker = part.candidates[0].model_copy(update={"p_correct": 0.5})
    # the order of a list is no difference
    other = part.model_copy(update={"candidates": (part.candidates[1], weaker)})
    names = []
    for each in (part, other):
        names.append(ledger.begin(ask("What is 12 + 5?")))
        ledger.finish(names[-1], "completed", parts=[each], answer="17")
    found = audit.diff(*names)
    assert [(row.path, row.left, row.right) for row in found] == [
        ("record.parts[0].candidates[arithmetic].p_correct", 0.97, 0.5)
    ]
    everything = {row.path for row in audit.diff(*names, every=True)}
    assert {"record.id", "record.row_hash", "record.created_at"} <= everything
    assert audit.diff(names[0], names[0], every=True) == ()


def test_stats_count(filled: dict[str, str], ledger: Ledger, audit: Audit, ask: Ask, part: Part) -> None:
    record_id = ledger.begin(ask("again"))
    forced = part.model_copy(update={"decision": part.decision.model_copy(update={"forced": True})})  # type: ignore[union-attr]
    ledger.finish(record_id, "completed", parts=[forced], answer="17")
    for score in (1.0, 0.0):
        ledger.note(Outcome(record_id=record_id, source="verifier", verdict="checked", score=score))
    ledger.forget(record_id=filled["broken"])
    found = audit.stats()
    assert found.records == 6
    assert found.statuses == {"abstained": 1, "completed": 3, "failed": 1, "in_progress": 1}
    # thread-a twice, thread-b, and three threads of their own
    assert (found.threads, found.multi_part, found.outcomes, found.erased) == (5, 1, 2, 1)
    assert (found.total_ms_p50, found.total_ms_p95) == (31.5, 60.0)
    by_name = {row.specialist: row for row in found.specialists}
    assert sorted(by_name) == ["arithmetic", "fact", "facts"]
    arithmetic = by_name["arithmetic"]
    assert (arithmetic.answers, arithmetic.forced, arithmetic.steered) == (2, 1, 1)
    assert (arithmetic.completion_tokens, arithmetic.mean_p_correct, arithmetic.mean_score) == (5, 0.97, 0.5)
    assert by_name["facts"].escalated_from == 1
    assert found.bytes > 0


def test_export_round_trips(
    ledger: Ledger, audit: Audit, ask: Ask, part: Part, weights: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.store.audit.CHUNK", 3)  # more chunks than one
    names = []
    for number in range(8):
        names.append(ledger.begin(ask(f"prompt {number}\nsecond line")))
        ledger.finish(names[-1], "completed", parts=[part], answer=f"answer {number}", artifacts=[weights])
    out = io.StringIO()
    assert audit.export(out) == 8
    read = [Page.model_validate_json(line) for line in out.getvalue().splitlines()]
    assert [page.record.id for page in read] == names
    assert read == [audit.page(name) for name in names]
    bare = io.StringIO()
    assert audit.export(bare, Filter(text="prompt 3"), texts=False) == 1
    for word in ("prompt 3", "answer 3", "12 + 5", "Paris"):
        assert word not in bare.getvalue()
    assert json.loads(bare.getvalue())["record"]["parts"][0]["decision"]["chosen"] == "arithmetic"


def test_reading_is_not_writing(filled: dict[str, str], where: str) -> None:
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    with (
        Audit.open(where) as audit,
        audit._engine.connect() as connection,
        pytest.raises(DBAPIError, match=r"read-?only"),
    ):
        connection.execute(text("DELETE FROM content"))
