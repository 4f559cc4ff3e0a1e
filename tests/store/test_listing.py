"""The list: the same records in the same order as reading every row would give, and no row hidden."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, event, select, update

from pilothouse.store import listing as module
from pilothouse.store.audit import Audit, Filter
from pilothouse.store.database import Place, matching, newest_holding
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Candidate, Generation, Part, Request, Timings
from pilothouse.store.retention import Limits
from pilothouse.store.tables import content, listing

Ask = Callable[..., Request]
Aged = Callable[[str, str], None]
NAMES = ("arithmetic", "facts", "fact")


def _part(name: str | None, rng: random.Random) -> Part:
    made = Generation(specialist=name, finish_reason="stop", timings=Timings(total_ms=rng.random()))
    candidates = tuple(Candidate(specialist=n, p_correct=rng.random(), cost=1, utility=0) for n in NAMES)
    return Part(generation=made, candidates=candidates)


def _fill(ledger: Ledger, ask: Ask, count: int) -> None:
    """Records that end in every way, out of the order in which they began."""
    rng = random.Random(0)
    waiting: list[str] = []
    for number in range(count):
        words = rng.choice(["alpha", "beta", "alpha beta"])
        waiting.append(ledger.begin(ask(f"{words} {number}", thread_id=f"t{rng.randint(0, 3)}")))
        if len(waiting) > 3:
            name = waiting.pop(rng.randrange(len(waiting)))
            status = rng.choice(["completed", "completed", "abstained", "failed"])
            team = rng.sample(NAMES, rng.randint(1, 2)) if status == "completed" else []
            ledger.finish(name, status, parts=[_part(one, rng) for one in team])  # type: ignore[arg-type]


def _filters(audit: Audit) -> Iterator[Filter]:
    times = [row.created_at for row in audit.summaries(limit=500)]
    for status in (None, "completed", "failed", "in_progress", "aborted"):
        for specialist in (None, "fact", "arithmetic", "nobody", "%"):
            yield Filter(status=status, specialist=specialist)  # type: ignore[arg-type]
            yield Filter(status=status, specialist=specialist, thread="t1")  # type: ignore[arg-type]
            yield Filter(status=status, specialist=specialist, since=times[-9], until=times[9])  # type: ignore[arg-type]
            yield Filter(status=status, specialist=specialist, text="alpha")  # type: ignore[arg-type]
    yield Filter(text="alpha beta", thread="t2")
    yield Filter(thread="nowhere")


def test_it_gives_what_reading_every_row_gives(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    """The plain twin is `pages`, which joins the log's own rows."""
    _fill(ledger, ask, 60)
    seen = set()
    for wanted in _filters(audit):
        plain = [page.record.id for page in audit.pages(wanted)][::-1]
        assert [page.record.id for page in audit.latest(wanted, limit=100)] == plain
        paged: list[str] = []
        while step := audit.latest(wanted, limit=7, before=paged[-1] if paged else None):
            paged += [page.record.id for page in step]
        assert paged == plain
        seen.add(len(plain))
    assert {0, 60} < seen  # the filters do differ


def test_p_and_milliseconds_are_the_summarys(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    _fill(ledger, ask, 20)
    with audit.reading() as connection:
        lines = {row.record_id: row for row in connection.execute(select(listing))}
    for row in audit.summaries(limit=100):
        line = lines[row.id]
        assert (line.p_correct, line.total_ms) == pytest.approx((row.p_correct, row.total_ms))


@pytest.mark.parametrize("query", ["alpha", "beta", "alpha beta", "alp*", "7", "bet* 46", "alpha 7", "gamma"])
def test_the_newest_texts_are_those_of_the_plain_query(
    ledger: Ledger, audit: Audit, ask: Ask, query: str
) -> None:
    """Over texts written one by one and together, some of them erased; every limit, the awkward ones too."""
    _fill(ledger, ask, 40)
    for future in [ledger.begin_soon(ask(f"alpha beta {number}")) for number in range(40, 70)]:
        future.result()
    for row in audit.summaries(limit=70)[3:60:7]:
        ledger.forget(record_id=row.id)
    with audit.reading() as connection:
        plain = select(content.c.id).where(matching(connection, query)).order_by(content.c.id.desc())
        every = list(connection.scalars(plain))
        assert bool(every) is (query != "gamma")
        for most in (1, 2, len(every) - 1, len(every), len(every) + 1, 1000):
            if most > 0:
                assert newest_holding(connection, query, most) == every[:most]


def test_a_search_looks_at_the_newest_texts_and_says_so(
    ledger: Ledger, audit: Audit, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [ledger.begin(ask(f"alpha {number}")) for number in range(5)]
    assert not audit.more_texts("alpha")
    monkeypatch.setattr(module, "MOST_TEXTS", 3)
    assert audit.more_texts("alpha")
    assert not audit.more_texts("4")
    assert [row.id for row in audit.summaries(Filter(text="alpha"))] == names[:1:-1]


@pytest.mark.parametrize("how", ["hidden", "another status", "another specialist", "another time"])
def test_a_list_that_lies_is_found(ledger: Ledger, audit: Audit, ask: Ask, how: str) -> None:
    _fill(ledger, ask, 8)
    assert audit.verify().ok
    changes = {
        "hidden": delete(listing),
        "another status": update(listing).values(status="aborted"),
        "another specialist": update(listing).values(specialists=",facts,arithmetic,fact,"),
        "another time": update(listing).values(created_at="2020-01-01T00:00:00.000000Z"),
    }
    with audit.reading() as connection:
        query = select(listing.c.sequence).where(listing.c.status == "completed")
        sequence = connection.scalars(query.order_by(listing.c.sequence)).first()
    with ledger._engine.begin() as connection:
        connection.execute(changes[how].where(listing.c.sequence == sequence))
    broken = audit.verify().broken
    assert broken is not None
    assert "list of records" in broken.reason


def test_rows_that_retention_lets_go_leave_the_list(ledger: Ledger, audit: Audit, ask: Ask) -> None:
    _fill(ledger, ask, 12)
    kept = audit.summaries(limit=4)
    moment = kept[-1].created_at
    ledger.retain(Limits(texts_before=moment, rows_before=moment))
    left = [row.id for row in audit.summaries(limit=100)]
    assert left[:4] == [row.id for row in kept]
    assert left == [page.record.id for page in audit.pages()][::-1]
    assert audit.verify().ok


def test_an_older_log_gets_its_list(log: Path, ask: Ask, aged: Aged) -> None:
    with Ledger.open(log, code="test") as ledger:
        _fill(ledger, ask, 30)
        with ledger._engine.begin() as connection:
            before = connection.execute(select(listing).order_by(listing.c.sequence)).all()
            connection.exec_driver_sql("DROP TABLE listing")
    aged(str(log), "0002")
    with Audit.open(log) as audit:
        with audit.reading() as connection:
            after = connection.execute(select(listing).order_by(listing.c.sequence)).all()
        assert [tuple(row) for row in after] == [tuple(row) for row in before]
        assert audit.verify().ok


def test_the_planner_uses_the_indexes(log: Path, ask: Ask) -> None:
    """No list of a big log may walk the whole table."""
    with Ledger.open(log, code="test") as ledger:
        _fill(ledger, ask, 12)
        plans: list[str] = []
        with Place.of(log).reading_engine().connect() as connection:
            asked: list[str] = []

            def keep(_: object, __: object, statement: str, values: object, *___: object) -> None:
                asked.append(statement)
                plan = connection.connection.dbapi_connection.execute(  # type: ignore[union-attr]
                    f"EXPLAIN QUERY PLAN {statement}", values
                )
                plans.extend(f"{row[3]}" for row in plan.fetchall())

            event.listen(connection, "before_cursor_execute", keep)
            for wanted in (
                Filter(),
                Filter(status="failed"),
                Filter(specialist="fact"),
                Filter(thread="t1", status="failed"),
                Filter(since="2026-01-01T00:00:00Z", until="2027-01-01T00:00:00Z"),
                Filter(status="failed", until="2027-01-01T00:00:00Z"),
            ):
                plans.clear()
                module.newest(connection, wanted, 5)
                about = [line for line in plans if "listing" in line]
                assert about
                assert all("INDEX" in line for line in about), (wanted, plans)
                if wanted.specialist is None:
                    assert not any("TEMP B-TREE" in line for line in plans), (wanted, plans)
