"""Sinks hear of every closed record, after it is on disk; whatever they do, no answer is lost or late."""

import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_package import install

from pilothouse.store.audit import Audit
from pilothouse.store.errors import PluginError, UsageError
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Page, Part, Request
from pilothouse.store.sinks import Lines, Telling, Told

Ask = Callable[..., Request]
BELL = """
class Bell:
    def closed(self, page): print("rung", page.record.status)
    def close(self): pass
"""


class Kept:
    """A sink that keeps what it is told, and may fail or wait first."""

    def __init__(self, fail: Callable[[int], bool] = lambda count: False) -> None:
        self.pages: list[Page] = []
        self.fail, self.calls, self.ended = fail, 0, 0
        self.free = threading.Event()
        self.free.set()

    def closed(self, page: Page) -> None:
        self.free.wait(20)
        self.calls += 1
        if self.fail(self.calls):
            raise RuntimeError(f"cannot take {page.prompt}")
        self.pages.append(page)

    def close(self) -> None:
        self.ended += 1


def test_a_sink_is_told_what_the_log_has(where: str, ask: Ask, part: Part) -> None:
    sink = Kept()
    with Ledger.open(where, code="test", patterns=["secret"], sinks=[sink]) as ledger:
        first = ledger.begin(ask("a secret"))
        second = ledger.begin(ask("hello"))
        ledger.finish(second, "completed", parts=[part], answer="good day")
        ledger.finish(first, "failed", error="no")
    assert sink.ended == 1
    with Audit.open(where) as audit:
        assert sink.pages == [audit.page(second), audit.page(first)]
    assert sink.pages[1].prompt == "a [redacted]"
    assert sink.pages[0].record.status == "completed"


def test_a_failing_sink_is_counted_and_fails_nothing(
    log: Path, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    odd, even = Kept(lambda count: count % 2 == 1), Kept()
    even.__class__ = type("Even", (Kept,), {})
    with Ledger.open(log, code="test", sinks=[odd, even]) as ledger:
        for number in range(6):
            ledger.finish(ledger.begin(ask(f"private {number}")), "completed", answer="x")
        until(lambda: sum(ledger.told["Kept"]) == 6 and sum(ledger.told["Even"]) == 6)
        assert ledger.told == {"Kept": Told(3, 3, 0), "Even": Told(6, 0, 0)}
    with Audit.open(log) as audit:
        assert {row.status for row in audit.summaries()} == {"completed"}
        assert audit.verify().ok
    assert caplog.text.count("missed") == 1
    assert "private" not in caplog.text


def test_one_that_hangs_holds_nobody_up(log: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.store import sinks

    monkeypatch.setattr(sinks, "PATIENCE", 0.1)
    stuck = Kept()
    stuck.free.clear()
    begun = time.monotonic()
    with Ledger.open(log, code="test", sinks=[stuck]) as ledger:
        for number in range(3):
            ledger.finish(ledger.begin(ask(str(number))), "completed", answer="x")
    assert time.monotonic() - begun < 5
    assert ledger.told["Kept"].dropped > 0
    stuck.free.set()
    with Audit.open(log) as audit:
        assert len(audit.summaries()) == 3


def test_what_does_not_fit_the_queue_is_dropped_and_counted(page: Page) -> None:
    stuck = Kept()
    stuck.free.clear()
    telling = Telling({"slow": stuck}, lambda names: [page for _ in names], most=2)
    for number in range(10):
        telling.tell(str(number))
    stuck.free.set()
    until(lambda: sum(telling.told["slow"]) == 10)
    told = telling.told["slow"]
    assert told.dropped >= 6
    assert told.taken == len(stuck.pages) == 10 - told.dropped
    telling.close()
    telling.close()
    assert stuck.ended == 1


@pytest.fixture
def page(log: Path, ask: Ask) -> Page:
    with Ledger.open(log, code="test") as ledger:
        name = ledger.begin(ask("my words"))
        ledger.finish(name, "completed", answer="your words")
    with Audit.open(log) as audit:
        return audit.page(name)


def test_lines_hold_no_text(page: Page) -> None:
    out = io.StringIO()
    Lines(out).closed(page)
    line = json.loads(out.getvalue())
    assert (line["record_id"], line["status"]) == (page.record.id, "completed")
    assert "words" not in out.getvalue()


def test_a_package_brings_one(
    log: Path, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = {"pilothouse.sinks": {"bell": "harbour:Bell", "wreck": "harbour:sunk"}}
    install(tmp_path / "site", monkeypatch, points, BELL)
    with Ledger.open(log, code="test", sinks=["bell", "stderr"]) as ledger:
        ledger.finish(ledger.begin(ask("hello")), "abstained")
    said = capsys.readouterr()
    assert said.out == "rung abstained\n"
    assert json.loads(said.err)["status"] == "abstained"
    for name, error in (("wreck", PluginError), ("bel", UsageError)):
        with pytest.raises(error, match=f"'{name}'"):
            Ledger.open(log, code="test", sinks=["bell", name])


def until(met: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
