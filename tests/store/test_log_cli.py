"""`pilothouse log`: data on stdout, messages on stderr, exit codes, nothing hostile printed."""

import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from pilothouse.agents.cli.main import main
from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Artifact, Outcome, Part, Request


class Done(NamedTuple):
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


Run = Callable[..., Done]
HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202e right to left"


@pytest.fixture
def run(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `pilothouse log ...` as the console script does."""
    monkeypatch.setenv("PILOTHOUSE_LOG", str(log))

    def invoke(*command: str) -> Done:
        monkeypatch.setattr("sys.argv", ["pilothouse", "log", *command])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return invoke


@pytest.fixture
def record(ledger: Ledger, ask: Callable[..., Request], part: Part, weights: Artifact) -> str:
    """One full record, hostile where text can be."""
    hostile = part.model_copy(
        update={
            "candidates": (part.candidates[0].model_copy(update={"specialist": HOSTILE}), *part.candidates)
        }
    )
    record_id = ledger.begin(ask(f"What is 12 + 5? {HOSTILE}"))
    ledger.finish(record_id, "completed", parts=[hostile], answer=f"17 {HOSTILE}", artifacts=[weights])
    ledger.note(Outcome(record_id=record_id, source="user", verdict="up", score=1.0, note=HOSTILE))
    return record_id


@pytest.mark.parametrize(
    "command",
    [["list"], ["show"], ["show", "--json"], ["list", "--json"], ["export"], ["diff", "last", "last"]],
)
def test_nothing_hostile_reaches_the_terminal(record: str, run: Run, command: list[str]) -> None:
    done = run(*command)
    assert done.exit_code == 0
    assert not set(done.stdout) & {"\x1b", "\x07", "\x9b"}
    assert "\u202e" not in done.stdout


def test_the_page_tells_the_whole_decision(record: str, run: Run) -> None:
    page = run("show", record[-6:]).stdout
    for told in (
        record,
        "completed",
        "What is 12 + 5? \\x1b[2J",
        "decision  arithmetic",
        "highest utility",
        "λ 0.1, threshold 0.3, propensity 0.9",
        "> arithmetic",
        "quiet  harm",
        "the logit of arithmetic is +2.500",
        "#7      digits",
        "probe bias",
        "reply-language: add × 2.5 at layer 4 (generation), chosen by language-fr, gated by language-fr",
        "escalated from facts: low probability",
        "answer (1.000): recomputed",
        "9 in, 3 out, -0.250 nats a token, ended by stop",
        "31.5 ms: probe 1.0, route 0.5, prefill 8.0, decode 20.0, log 2.0",
        "user: up (1.000)",
        "adapter arithmetic",
        "row       2:",
    ):
        assert told in page, told


def test_json_is_the_models_own(record: str, run: Run, log: Path) -> None:
    with Audit.open(log) as audit:
        page = audit.page("last").model_dump(mode="json")
    assert json.loads(run("show", "--json").stdout) == page
    assert json.loads(run("export").stdout) == page
    row = json.loads(run("list", "--json").stdout)
    assert (row["id"], row["specialists"], row["p_correct"]) == (record, ["arithmetic"], 0.97)
    assert json.loads(run("stats", "--json").stdout)["statuses"] == {"completed": 1}
    assert run("diff", "last", record, "--json").stdout == ""
    verified = json.loads(run("verify", "--json").stdout)
    assert (verified["ok"], verified["rows"]) == (True, 3)


def test_a_piped_list_is_tab_separated(record: str, run: Run) -> None:
    cells = run("list").stdout.rstrip("\n").split("\t")
    assert (cells[0], cells[2], cells[3], cells[4], cells[5]) == (
        record,
        "completed",
        "arithmetic",
        "0.97",
        "32",
    )


def test_filters_and_times(record: str, run: Run) -> None:
    assert (
        record in run("list", "--status", "completed", "--specialist", "arithmetic", "--since", "1h").stdout
    )
    assert run("list", "--status", "failed").stdout == ""
    assert run("list", "--since", "2100-01-01").stdout == ""
    assert run("list", "--until", "2000-01-01T00:00Z").stdout == ""
    assert run("list", "--text", "nowhere").stdout == ""
    assert record in run("list", "--text", "what 12").stdout
    wrong = run("list", "--since", "yesterday")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "time 'yesterday' cannot be read" in wrong.stderr
    assert run("list", "--status", "sleeping").exit_code == 2


def test_tampering_ends_with_4_and_names_the_row(record: str, run: Run, log: Path) -> None:
    tip = next(line for line in run("verify").stdout.splitlines() if line.startswith("tip: "))[5:]
    assert run("verify", "--tip", tip).exit_code == 0
    with closing(sqlite3.connect(log)) as connection, connection:
        connection.execute("DROP TRIGGER events_keep")
        connection.execute("UPDATE events SET status = 'failed' WHERE sequence = 2")
    done = run("verify")
    assert (done.exit_code, done.stdout) == (4, "")
    assert f"row 2 (record {record}) is broken" in done.stderr
    told = run("verify", "--json")
    assert told.exit_code == 4
    assert json.loads(told.stdout)["broken"]["sequence"] == 2


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["show", "ffffffff"], 3, "there is no record 'ffffffff'"),
        (["show", "a\x1b[2J"], 3, "\\x1b[2J"),
        (["show", "f"], 2, "too short"),
        (["list", "--log", "/nowhere/log.db"], 3, "/nowhere/log.db does not exist"),
        (["list", "--log", "/"], 5, "is a folder"),
        (["export", "--out", "/nowhere/out.jsonl"], 2, "cannot be written"),
        (["verify", "--tip", "nonsense"], 2, "SEQUENCE:HASH"),
        (["forget", "last"], 2, "say --yes"),
        (["forget", "--yes"], 2, "either a record or a thread"),
        (["forget", "--thread", "nowhere", "--yes"], 3, "no thread 'nowhere'"),
        (["list", "--text", " "], 2, "empty"),
    ],
)
def test_faults_are_one_sentence_and_a_code(
    record: str, run: Run, command: list[str], code: int, told: str
) -> None:
    done = run(*command)
    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr
    assert done.stderr.startswith("pilothouse: ")
    assert done.stderr.count("\n") == 1


def test_forgetting(record: str, run: Run, ledger: Ledger) -> None:
    done = run("forget", record, "--yes", "--reason", "by request")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "6 texts of 1 records erased" in done.stdout
    page = run("show", record).stdout
    assert ": by request" in page
    assert "12 + 5" not in page
    assert "decision  arithmetic" in page
    assert run("verify").exit_code == 0
    assert "(not kept)" in run("list").stdout


def test_export_to_a_file(record: str, run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    done = run("export", "--out", str(target), "--no-texts")
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"1 records written to {target}" in done.stderr
    assert "12 + 5" not in target.read_text()


def test_an_open_record_has_a_page(ledger: Ledger, ask: Callable[..., Request], run: Run) -> None:
    ledger.begin(ask("hello\nthere"))
    page = run("show").stdout
    assert "in_progress" in page
    assert "answer    (none yet)" in page
    assert "prompt    hello\n          there\n" in page


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from pilothouse.agents.cli import log as module

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [("a", "[red]b[/red]"), ("\x1b[31mc", "d")]
    shown = Terminal()
    monkeypatch.setattr(module.sys, "stdout", shown)
    module._table(("one", "two"), rows)
    assert "[red]b[/red]" in shown.getvalue()  # no markup is obeyed
    assert "\\x1b[31mc" in shown.getvalue()
