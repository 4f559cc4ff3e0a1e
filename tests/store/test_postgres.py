"""What only a server can do to a log: refuse, vanish, be locked. Acknowledged rows stay; errors are plain."""

import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from sqlalchemy import make_url, text

from pilothouse.bench.service.wire import Wire, wire
from pilothouse.store import errors
from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Request

psycopg = pytest.importorskip("psycopg")
Ask = Callable[..., Request]


@pytest.fixture
def url(postgres_place: Callable[[], str]) -> str:
    return postgres_place()


def test_every_connection_is_durable_and_patient(url: str) -> None:
    with Ledger.open(url, code="test", patience=7) as ledger:
        with ledger._engine.connect() as connection:
            found = {
                name: connection.execute(text(f"SHOW {name}")).scalar()
                for name in ("synchronous_commit", "lock_timeout", "application_name")
            }
        assert found == {"synchronous_commit": "on", "lock_timeout": "7s", "application_name": "pilothouse"}
        assert ledger.notes == ()
    with Audit.open(url) as audit, audit.reading() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar() == "repeatable read"
        assert connection.execute(text("SHOW transaction_read_only")).scalar() == "on"


def test_reading_makes_no_log(url: str) -> None:
    with pytest.raises(errors.StoreMissingError, match="holds no log yet"):
        Audit.open(url)


def test_somebody_elses_schema_is_left_alone(url: str) -> None:
    schema = url.rpartition("search_path%3D")[2]
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {schema}.songs (name text)")
    for opener in (Ledger.open, Audit.open):
        with pytest.raises(errors.StoreCorruptError, match="holds the table 'songs'"):
            opener(url)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda url: url.replace("/postgres?", "/nowhere?"), errors.StorePlaceError),
        (lambda url: url.replace("pilot:", "pilot:x"), errors.StoreError),
        (lambda _: "postgresql://pilot:hush@127.0.0.1:1/none", errors.StoreUnreachableError),
        (lambda _: "postgresql://pilot:hush@127.0.0.1:port/none", errors.StorePlaceError),
        (lambda _: "mysql://pilot:hush@127.0.0.1/none", errors.StorePlaceError),
    ],
)
def test_a_server_that_says_no(
    url: str, change: Callable[[str], str], error: type[errors.StoreError]
) -> None:
    wrong = change(url)
    secret = wrong.split("//")[1].split("@")[0].partition(":")[2]
    for opener in (Ledger.open, Audit.open):
        with pytest.raises(error) as caught:
            opener(wrong, patience=2)
        assert secret not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_locked_chain_is_waited_for_and_then_told(url: str, ask: Ask) -> None:
    with Ledger.open(url, code="test", patience=0.3) as ledger:
        with psycopg.connect(url) as other:
            other.execute("SELECT value FROM meta WHERE key = 'chain' FOR UPDATE")
            with pytest.raises(errors.StoreLockedError, match=r"more than 0.3 s"):
                ledger.begin(ask("too early"))
        record_id = ledger.begin(ask("the lock is free"))
    with Audit.open(url) as audit:
        assert [row.id for row in audit.summaries()] == [record_id]


def test_a_cut_connection_is_told_and_mended(url: str, ask: Ask) -> None:
    with Ledger.open(url, code="test") as ledger:
        record_id = ledger.begin(ask("before the cut"))
        with psycopg.connect(url.partition("?")[0], autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'pilothouse' AND pid <> pg_backend_pid()"
            )
        with pytest.raises(errors.StoreUnreachableError, match="cannot be reached"):
            ledger.finish(record_id, "completed", answer="lost on the way")
        ledger.finish(record_id, "completed", answer="arrived")  # unaided
    with Audit.open(url) as audit:
        assert audit.page(record_id).answer == "arrived"
        assert audit.verify().ok


@pytest.mark.parametrize("breaking", [Wire.cut, Wire.die])
def test_a_network_that_breaks_is_told_within_the_patience_and_mended(
    url: str, ask: Ask, breaking: Callable[[Wire], None]
) -> None:
    """Dead is worse than cut: everything is acknowledged below, and nothing is answered."""
    port = make_url(url).port
    assert port is not None
    with (
        wire(port) as between,
        Ledger.open(url.replace(f":{port}/", f":{between.port}/"), code="test", patience=0.5) as ledger,
    ):
        first, second = ledger.begin(ask("whole")), ledger.begin(ask("cut in the middle"))
        ledger.finish(first, "completed", answer="yes")
        breaking(between)
        begun = time.monotonic()
        with pytest.raises(errors.StoreUnreachableError, match="cannot be reached"):
            ledger.finish(second, "completed", answer="nobody hears this")
        assert time.monotonic() - begun < 20
        between.mend()
        third = ledger.begin(ask("after"))
        ledger.finish(third, "completed", answer="yes")
    with Audit.open(url) as audit:
        found = {row.id: row.status for row in audit.summaries()}
        assert found.keys() == {first, second, third}
        assert found[first] == found[third] == "completed"
        assert audit.verify().ok


def test_hostile_names_find_nothing_and_break_nothing(url: str, ask: Ask) -> None:
    from pilothouse.store.audit import Filter

    with Ledger.open(url, code="test") as ledger:
        good = ledger.begin_soon(ask("neighbour"))
        bad = ledger.begin(ask("x", thread_id="nul \x00 '; DROP TABLE events; --", person="\x00"))
        assert good.result()
    with Audit.open(url) as audit:
        assert audit.page(bad).record.thread_id == "nul \x00 '; DROP TABLE events; --"
        assert [row.id for row in audit.summaries(Filter(thread="nul \x00 '; DROP TABLE events; --"))] == [
            bad
        ]
        with pytest.raises(errors.UsageError, match="empty"):
            audit.summaries(Filter(text="\x00"))
        for words in ("' & !y", "a:* | b", "\\", "'", "<->"):
            assert audit.summaries(Filter(text=words)) == []
        with pytest.raises(errors.NotFoundError):
            audit.page("\x00\x00\x00\x00")


def test_a_very_long_text_is_kept_and_its_beginning_is_found(url: str, ask: Ask) -> None:
    from pilothouse.store.audit import Filter

    words = " ".join(f"w{number:07d}" for number in range(200_000))
    with Ledger.open(url, code="test") as ledger:
        record_id = ledger.begin(ask(words))
    with Audit.open(url) as audit:
        assert audit.page(record_id).prompt == words
        assert [row.id for row in audit.summaries(Filter(text="w0000007"))] == [record_id]
        assert audit.stats().bytes > 10_000


def test_the_options_of_the_url_are_kept(url: str) -> None:
    """The schema, for one: it is named there."""
    Ledger.open(url, code="test").close()
    schema = url.rpartition("search_path%3D")[2]
    with psycopg.connect(url.partition("?")[0]) as connection:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'events'"
        assert connection.execute(query, (schema,)).fetchone() == (1,)
    assert quote("=") in url
