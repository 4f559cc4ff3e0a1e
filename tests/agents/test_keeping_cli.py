"""The verbs that keep and move the log, as the console script runs them."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pilothouse.agents.cli.main import main
from pilothouse.store.audit import Audit
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Message, Request

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with two answered requests of ada's, in one conversation that is remembered."""
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path))
    with Ledger.open(code="test") as ledger:
        for prompt in ("first", "second"):
            request = Request(
                messages=(Message(role="user", content=prompt),), thread_id="talk", person="ada"
            )
            ledger.finish(ledger.begin(request), "completed", answer=f"told {prompt}")
    with closing(sqlite3.connect(tmp_path / "data" / "threads.db")) as connection, connection:
        for table in ("checkpoints", "writes"):
            connection.execute(f"CREATE TABLE {table} (thread_id, value)")
            connection.execute(f"INSERT INTO {table} VALUES ('talk', 'first')")
    return tmp_path


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `pilothouse log …`."""

    def invoke(*command: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["pilothouse", "log", *command])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    return invoke


def _remembered(home: Path) -> int:
    with closing(sqlite3.connect(home / "data" / "threads.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0])


def test_retention_takes_texts_and_what_conversations_remember(home: Path, run: Run) -> None:
    assert "nothing is old enough" in run("retain", "--content", "1y", "--yes")[1]
    assert _remembered(home) == 1
    code, out, _ = run("retain", "--content", "0s", "--dry-run")
    assert (code, out) == (0, "4 texts of 2 records would go (all up to row 4); 0 rows would go\n")
    assert run("retain", "--content", "0s")[0] == 2  # nobody can be asked
    assert _remembered(home) == 1
    assert run("retain", "--content", "0s", "--yes")[0] == 0
    assert _remembered(home) == 0
    assert "(not kept)" in run("list")[1]
    assert run("verify")[0] == 0
    assert run("retain", "--yes")[0] == 2


def test_a_person_is_forgotten_with_the_conversations(home: Path, run: Run) -> None:
    code, out, _ = run("forget", "--person", "ada", "--yes", "--json")
    assert (code, len(json.loads(out)["records"]), json.loads(out)["threads"]) == (0, 2, ["talk"])
    assert _remembered(home) == 0
    assert run("forget", "--person", "ada", "--yes")[0] == 3


def test_a_backup_comes_back_and_vouches(home: Path, run: Run, tmp_path: Path) -> None:
    copy, back = tmp_path / "copy.db", tmp_path / "back.db"
    _, tip, _ = run("tip")
    code, out, _ = run("backup", str(copy))
    assert (code, out.splitlines()[-1]) == (0, f"verified; tip: {tip.strip()}")
    assert run("restore", str(copy), "--log", str(back))[0] == 0
    assert run("verify", "--log", str(back), "--tip", tip.strip())[0] == 0
    assert run("restore", str(copy))[0] == 2  # there is a log already
    assert run("migrate", str(tmp_path / "moved.db"), "--json")[0] == 0
    with Audit.open(tmp_path / "moved.db") as audit:
        assert audit.page("last").answer == "told second"


def test_a_signed_tip_goes_through_the_command_line(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, file = tmp_path / "key.pem", tmp_path / "tip.json"
    private = Ed25519PrivateKey.generate()
    key.write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    code, out, _ = run("tip", "--sign", str(key))
    file.write_text(out)
    assert code == 0
    assert run("verify", "--tip", str(file))[0] == 0
    assert run("verify", "--tip", out)[0] == 0
    file.write_text(out.replace('"tip": "4:', '"tip": "3:'))
    assert run("verify", "--tip", str(file))[0] == 4
    assert run("verify", "--tip", str(tmp_path / "nothing.json"))[0] == 2
    assert run("verify", "--tip", "4:" + "a" * 64, "--public-key", str(key))[0] == 2


def test_exports_and_the_pack(home: Path, run: Run, tmp_path: Path) -> None:
    assert run("export", "--format", "csv")[1].startswith("id,thread_id,")
    assert run("export", "--format", "parquet")[0] == 2  # to a file only
    code, _, told = run(
        "export", "--format", "eu-ai-act-art12", "--since", "1d", "--out", str(tmp_path / "p.zip")
    )
    assert code == 0
    assert told.endswith("the log verifies\n")
    wrong = ("export", "--format", "eu-ai-act-art12", "--thread", "talk", "--out", str(tmp_path / "q.zip"))
    assert run(*wrong)[0] == 2
    assert not (tmp_path / "q.zip").exists()


def test_drift_needs_conversations(run: Run) -> None:
    code, _, told = run("drift")
    assert code == 2
    assert "50 are needed" in told
