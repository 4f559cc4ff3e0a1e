"""The commands as a user runs them, from arguments to exit code."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from toy_family import ANSWERS, Tiny

from pilothouse.agents import opening
from pilothouse.agents.cli.main import main
from pilothouse.specialists.family import Family


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    tiny: Tiny,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command in this process; the tiny family's engine is shared, its files are verified."""
    real = opening.open_ship

    def shared(family: str, log: Any, engine: Any, policy: Any, **more: Any) -> Any:
        opened = Family.open(family)
        opened.verify()
        return real(opened, log, tiny.engine if opened.folder == tiny.folder else engine, policy, **more)

    monkeypatch.setattr(opening, "open_ship", shared)
    monkeypatch.setenv("PILOTHOUSE_FAMILY", str(tiny.folder))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str, stdin: bytes = b"", **variables: str) -> Done:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["pilothouse", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        try:
            main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        return Done(code, *capsys.readouterr())

    return go


def test_ask_json_then_why(run: Run) -> None:
    done = run("ask", "--json", "What is 3 + 4?")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert (body["text"], body["specialist"], body["status"]) == (ANSWERS["sums"], "sums", "completed")
    shown = run("why", body["record_id"])
    assert shown.code == 0, shown.err
    for part in ("> sums", "P(correct)", "= the logit of sums, exactly", "unexplained remainder", "prefill"):
        assert part in shown.out
    shares = [float(found) for found in re.findall(r"^ ([+-]\d+\.\d{3}) ", shown.out, re.MULTILINE)]
    assert sum(shares[:-1]) == pytest.approx(shares[-1], abs=0.01)
    other = json.loads(run("why", "last", "--json").out)
    assert other["page"]["record"]["id"] == body["record_id"]


def test_ask_reads_standard_input_and_prints_only_the_answer(run: Run) -> None:
    assert run("ask", stdin=b"Spell dog.\n") == (0, ANSWERS["words"] + "\n", "")
    assert run("ask", "--no-stream", "-", stdin=b"Spell dog.\n").out == ANSWERS["words"] + "\n"


def test_ask_goes_on_with_a_thread(run: Run) -> None:
    run("ask", "--thread", "mine", "What is 3 + 4?")
    run("ask", "--thread", "mine", "Spell dog.")
    page = json.loads(run("log", "show", "last", "--json").out)
    assert [m["content"] for m in page["messages"]] == ["What is 3 + 4?", ANSWERS["sums"], "Spell dog."]


def test_why_causal(run: Run) -> None:
    run("ask", "Spell dog.")
    text = run("why", "--causal").out
    assert re.search(r"without its top 3 features the decision (flips|stands)", text)
    assert "drawn at random: the decision" in text
    flips = json.loads(run("why", "--causal", "--json").out)["flips"]
    assert flips == ["the decision flips" in text]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (["ask", ""], b"", 2, "the prompt is empty"),
        (["ask"], b"", 2, "the prompt is empty"),
        (["ask"], b"\xff\xfe\x00", 2, "not UTF-8 (byte 0xff at 0)"),
        (["ask", "\udcff"], b"", 2, "not UTF-8"),
        (["ask"], b"x" * 100_000, 2, "100,000 characters; at most 20,000"),
        (["ask", "-s", "wrods", "Spell dog."], b"", 3, "did you mean words?"),
        (["ask", "-f", "nowhere", "hi"], b"", 3, "there is no family 'nowhere'"),
        (["why", "abcdefgh"], b"", 3, "log"),
        (["ask", "--max-tokens", "0", "hi"], b"", 2, "max-tokens"),
        (["chat", "--continue"], b"", 3, "log"),
        (["chat", "--resume", "nobody"], b"hi\n", 3, "nobody"),
        (["family", "new", "Bad Name", "--trunk", "x"], b"", 2, "Bad Name"),
        (["family", "show", "nowhere"], b"", 3, "nowhere"),
    ],
)
def test_bad_input_gets_one_sentence(
    run: Run, arguments: list[str], stdin: bytes, code: int, message: str
) -> None:
    done = run(*arguments, stdin=stdin)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_tampered_family_names_the_file(run: Run, tiny: Tiny, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny.folder, copy)
    path = copy / "specialists" / "words" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    for arguments in (["ask", "hi"], ["doctor"]):
        done = run(*arguments, PILOTHOUSE_FAMILY=str(copy))
        assert done.code == 6
        assert str(path) in done.err + done.out


def test_a_home_that_cannot_be_written_stops_before_answering(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "data").write_text("in the way")
    done = run("ask", "Spell dog.")
    assert (done.code, done.out) == (5, "")
    assert run("ask", "--no-log", "Spell dog.").out == ANSWERS["words"] + "\n"


def test_no_escape_sequence_reaches_the_terminal(run: Run) -> None:
    prompt = "zq\x1b[2J\x07\u202e#@q"
    commands = (["ask", prompt], ["why"], ["ask", "--json", prompt], ["log", "show", "last"])
    for command in commands:
        done = run(*command)
        assert not {"\x1b", "\x07", "\u202e"} & set(done.out + done.err)


def test_doctor(run: Run) -> None:
    assert run("doctor").code == 0
    run("ask", "Spell dog.")
    found = {row["name"]: row for row in json.loads(run("doctor", "--json").out)}
    assert {name: row["state"] for name, row in found.items()} == dict.fromkeys(found, "ok")
    assert "1 records, chain whole" in found["log"]["text"]
    assert "settings" in found


def test_config(run: Run) -> None:
    shown = run("config", "show", "--origin").out
    assert re.search(r"family = .*# environment PILOTHOUSE_FAMILY", shown)
    assert "threads" in run("config", "path").out
    assert json.loads(run("config", "show", "--json", "--origin").out)["seed"] == {
        "value": 0,
        "origin": "default",
    }
    done = run("config", "show", PILOTHOUSE_SEEDS="1")
    assert done.code == 2
    assert "did you mean 'seed'?" in done.err


def test_family(run: Run, tiny: Tiny) -> None:
    assert "words" in run("family", "show").out
    assert "kind      adapter" in run("family", "show", str(tiny.folder), "words").out
    made = run("family", "new", "mine", "--trunk", str(tiny.folder / "trunk"))
    assert made.code == 0, made.err
    assert "mine\t" in run("family", "list").out
    alone = run("ask", "--json", "--family", "mine", "--max-tokens", "4", "Spell dog.")
    body = json.loads(alone.out)
    assert (body["specialist"], body["p_correct"], body["candidates"]) == ("trunk", None, [])


def test_chat_reads_prompts_and_commands_from_a_pipe(run: Run, tmp_path: Path) -> None:
    lines = b'What is 3 + 4?\n\n/tokens\n"""Spell\ndog."""\n/undo\n'
    lines += b"/export talk.json\n/nonsense\n/route sums\n/exit\nlost\n"
    done = run("chat", stdin=lines)
    assert done.out.startswith(ANSWERS["sums"] + "\nlast answer: ")
    assert "forgotten: Spell dog." in done.out
    assert "route: sums" in done.out
    assert "lost" not in done.out
    assert "there is no command /nonsense" in done.err
    assert done.code == 2, "the first fault's code is left with"
    talk = json.loads((tmp_path / "talk.json").read_text())
    assert [m["content"] for m in talk["messages"]] == ["What is 3 + 4?", ANSWERS["sums"]]
    again = run("chat", "--continue", stdin=b"Spell dog.\n/export more.md\n/export more.md\n")
    assert (again.code, "exists already" in again.err) == (2, True)
    assert "What is 3 + 4?" in (tmp_path / "more.md").read_text()


def test_chat_commands(run: Run) -> None:
    lines = b"/why\nSpell dog.\n/steer push=2\n/steer pull=2\n/steer off\n/retry\n/why\n"
    lines += b"/route nobody\n/new\n/undo\n/help\n"
    done = run("chat", stdin=lines)
    for part in (
        "with push = 2",
        "the policy's is off\n",
        "= the logit of words",
        "new conversation",
    ):
        assert part in done.out
    for part in ("nothing is on record", "vector 'pull'", "no specialist 'nobody'", "nothing to undo"):
        assert part in done.err
    retried = json.loads(run("log", "show", "last", "--json").out)
    assert retried["record"]["parent_id"]
    assert retried["messages"] == [{"role": "user", "content": "Spell dog."}], "the first answer was undone"


def test_one_bad_line_does_not_end_a_chat(run: Run) -> None:
    done = run("chat", stdin=b"\xff\n" + b"x" * 30_000 + b"\nSpell dog.\n")
    assert done.out == ANSWERS["words"] + "\n"
    assert (done.code, len(done.err.splitlines())) == (2, 2)
