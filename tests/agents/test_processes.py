"""What only a process of its own can show: a terminal, Ctrl-C, kill -9, a cold start."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_family import ANSWERS, Tiny

from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
START = "from pilothouse.agents.cli.main import main; main()"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


@pytest.fixture
def environment(tiny: Tiny, home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / ".typing"),
        "PILOTHOUSE_FAMILY": str(tiny.folder),
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "TERM": "xterm",
    }


def launch(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-c", code, *arguments]


class Terminal:
    """A process in a pseudo-terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self.descriptor = pty.fork()
        self.text = ""
        if self.pid == 0:
            os.execvpe(command[0], command, environment)

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Read on until `text` was shown."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read():
            plain = ESCAPE.sub("", self.text)
            if text in plain:
                self.text = plain.partition(text)[2]
                return
        raise AssertionError(f"no {text!r} in {ESCAPE.sub('', self.text)!r}")

    def _read(self) -> bool:
        if select.select([self.descriptor], [], [], 0.1)[0]:
            try:
                self.text += os.read(self.descriptor, 65536).decode(errors="replace")
            except OSError:  # the process has ended
                return False
            if "\x1b[6n" in self.text:  # it asks where the cursor is
                self.text = self.text.replace("\x1b[6n", "")
                os.write(self.descriptor, b"\x1b[1;1R")
        return True

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def end(self, seconds: float = 30) -> int:
        """Wait for its exit code."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"it did not end after {ESCAPE.sub('', self.text)!r}")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)


@pytest.fixture
def open_terminal(environment: dict[str, str]) -> Iterator[Callable[[str], Terminal]]:
    """Open a chat in a terminal; it is killed at the end if it still runs."""
    with contextlib.ExitStack() as stack:

        def start(code: str) -> Terminal:
            return stack.enter_context(contextlib.closing(Terminal(launch(code, "chat"), environment)))

        yield start


def statuses() -> list[str]:
    with Audit.open() as audit:
        return [row.status for row in audit.summaries(limit=1000)]


@pytest.mark.slow
def test_chat_in_a_terminal(open_terminal: Callable[[str], Terminal], tmp_path: Path) -> None:
    """The prompt comes before the model; Ctrl-C stops an answer only; Ctrl-D leaves.

    Loading waits for a file, and control keys wait for the prompt, which is drawn when keys are read: so the
    order of things is the same on a busy machine.
    """
    go = tmp_path / "go"
    held = (
        "import time, pathlib; from pilothouse.agents.pilot import Pilot; warm = Pilot.warm\n"
        f"def wait(pilot):\n    while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)\n"
        "    return warm(pilot)\n"
        "Pilot.warm = wait\n"
    )
    terminal = open_terminal(held + START)
    terminal.wait_for("Ctrl-D leaves")
    terminal.wait_for("loading the family")
    terminal.type("Spell dog.\r")
    go.touch()
    terminal.wait_for(ANSWERS["words"])
    terminal.wait_for("words · P(correct)")
    terminal.type("/why\r")
    terminal.wait_for("= the logit of words, exactly")
    terminal.wait_for(">")
    terminal.type("\x03")  # at the prompt it forgets the line
    terminal.type("/steer push=3\r")
    terminal.wait_for("with push = 3")
    terminal.wait_for(">")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert statuses() == ["completed"]


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_only(open_terminal: Callable[[str], Terminal]) -> None:
    slow = (
        "import time; from pilothouse.specialists.engines import row; old = row.Row.accept_all; "
        "row.Row.accept_all = lambda *a, **k: (time.sleep(0.3), old(*a, **k))[1]; "
        "from pilothouse.specialists.engines.native import batch; batch.MOST = 1; "
    )
    terminal = open_terminal(slow + START)
    terminal.wait_for("Ctrl-D leaves")
    terminal.type("Spell dog.\r")
    terminal.wait_for("The ")
    terminal.type("\x03")
    terminal.wait_for("stopped; the record says aborted")
    terminal.type("/tokens\r")
    terminal.wait_for("nothing was answered")
    terminal.wait_for(">")  # a key typed while nobody reads keys is lost
    terminal.type("\x04")
    assert terminal.end() == 0
    assert statuses() == ["aborted"]


@pytest.mark.slow
def test_kill_nine_loses_no_printed_answer(environment: dict[str, str], tmp_path: Path) -> None:
    """Two kills in mid-stream; `bench/faults.py` does fifty."""
    printed: list[str] = []
    for pause in (0.1, 0.5):
        process = subprocess.Popen(
            launch(START, "chat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=tmp_path,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Spell dog.\n/new\n" * 200)
        process.stdin.flush()
        first = process.stdout.readline()  # the first answer is out: from now on it is busy
        time.sleep(pause)
        process.kill()
        printed += (first + process.stdout.read()).decode().split("\n")[:-1]
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
    whole = [line for line in printed if not line.startswith("new conversation")]
    with Audit.open() as audit:
        assert audit.verify().ok
        rows = Counter(page.answer for page in audit.pages() if page.record.status == "completed")
    assert len(whole) >= 2
    assert not Counter(whole) - rows, "every printed answer has its row"
    Ledger.open().close()
    assert "in_progress" not in statuses(), "what the dead left open is closed as aborted"
