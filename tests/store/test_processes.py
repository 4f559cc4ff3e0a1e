"""Several processes, and processes that die: nothing acknowledged is lost, nobody is locked out."""

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.store.audit import Audit
from pilothouse.store.ledger import GONE, Ledger
from pilothouse.store.process import Process, is_gone, this_process
from pilothouse.store.records import Request

Spawn = Callable[..., "subprocess.Popen[str]"]


def _lines(child: "subprocess.Popen[str]") -> list[str]:
    """The whole lines that the process printed before it ended."""
    assert child.stdout is not None
    with child.stdout as out:
        lines = out.readlines()
    child.wait()
    return [line for line in lines if line.endswith("\n")]


def test_four_processes_lose_nothing_and_lock_nobody_out(where: str, spawn: Spawn) -> None:
    children = [spawn(where, f"writer{n}", 50) for n in range(4)]
    names = [[line.strip() for line in _lines(child)] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    assert [len(part) for part in names] == [50, 50, 50, 50]
    with Audit.open(where) as audit:
        found = audit.verify()
        assert (found.ok, found.rows, found.records, found.texts) == (True, 400, 200, 400)
        answers = {page.record.id: page.answer for page in audit.pages()}
    for number, part in enumerate(names):
        assert [answers[name] for name in part] == [f"writer{number} is told {n}" for n in range(50)]


def test_what_was_acknowledged_survives_kill_9(where: str, spawn: Spawn) -> None:
    random.seed(20)
    acknowledged: list[str] = []
    for _ in range(4):
        children = [spawn(where, "victim", 100_000) for _ in range(3)]
        for child in children:  # let each one get going, then kill it anywhere
            assert child.stdout is not None
            acknowledged.append(child.stdout.readline().strip())
        for child in random.sample(children, 3):
            time.sleep(random.random() * 0.15)
            child.kill()
        acknowledged += [line.strip() for child in children for line in _lines(child)]
    assert len(acknowledged) >= 12
    with Ledger.open(where, code="test") as ledger, Audit.open(where) as audit:
        assert audit.verify().ok
        assert ledger.recover() == ()  # opening has done so
        by_id = {page.record.id: page for page in audit.pages()}
        assert all(by_id[name].record.status == "completed" and by_id[name].answer for name in acknowledged)
        assert {page.record.status for page in by_id.values()} <= {"completed", "aborted"}
        assert len(by_id) <= len(acknowledged) + 2 * 12  # each victim had at most two more on the way


@pytest.fixture
def abandoned(log: Path, spawn: Spawn) -> str:
    """A record whose process was killed while it answered."""
    child = spawn(log, "victim", 1, "open")
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    with Audit.open(log) as audit:
        assert not audit.page(name).orphaned
    child.kill()
    _lines(child)
    return name


def test_an_abandoned_record_is_shown_as_such_and_closed(abandoned: str, log: Path) -> None:
    with Audit.open(log) as audit:
        page = audit.page(abandoned)
        assert (page.record.status, page.orphaned) == ("in_progress", True)
        assert audit.summaries()[0].orphaned
        Ledger.open(log, code="test").close()
        page = audit.page(abandoned)
        assert (page.record.status, page.orphaned, page.record.error) == ("aborted", False, GONE)
        assert audit.verify().ok


def test_a_record_of_a_living_process_is_left_alone(
    ledger: Ledger, log: Path, ask: Callable[..., Request]
) -> None:
    record_id = ledger.begin(ask("hello"))
    with Ledger.open(log, code="test") as other:
        assert other.recover() == ()
    assert ledger.finish(record_id, "completed", answer="still here") == 2


def test_processes_are_told_apart() -> None:
    here = this_process()
    assert not is_gone(here)
    assert here.started is not None
    later = here.model_copy(update={"started": here.started + 1})
    assert is_gone(later)  # the number was given to a new process
    assert not is_gone(later.model_copy(update={"host": "elsewhere"}))
    child = subprocess.Popen(["sleep", "60"])
    try:
        born = Process(host=here.host, pid=child.pid, started=None)
        child.kill()
        deadline = time.monotonic() + 10
        while not is_gone(born) and time.monotonic() < deadline:  # a zombie until it is waited for
            time.sleep(0.01)
        assert is_gone(born)
    finally:
        child.wait()
