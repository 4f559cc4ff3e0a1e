"""Copies of a log: backup, restore, another database; exports; signed tips."""

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.store import moving
from pilothouse.store.audit import Audit, Filter
from pilothouse.store.database import Place
from pilothouse.store.errors import StoreMissingError, UsageError, VerifyError
from pilothouse.store.flat import COLUMNS, write_csv, write_parquet
from pilothouse.store.hashes import seal
from pilothouse.store.ledger import Ledger
from pilothouse.store.pack import write_pack
from pilothouse.store.records import Artifact, Outcome, Page, Part, Request
from pilothouse.store.retention import Limits
from pilothouse.store.signature import checked, sign
from pilothouse.store.verify import Tip

Ask = Callable[..., Request]


@pytest.fixture
def filled(ledger: Ledger, ask: Ask, part: Part, weights: Artifact) -> list[str]:
    """Five records with something in every table; the first one's rows were let go."""
    gone = ledger.begin(ask("long ago"))
    ledger.finish(gone, "completed", answer="forgotten")
    ledger.retain(Limits(None, "2999-01-01T00:00:00.000000Z"))
    names = [ledger.begin(ask(f"=prompt {n} \x00", person=f"p{n}")) for n in range(5)]
    for name in names[:4]:
        ledger.finish(name, "completed", parts=[part], answer=f"told {name}", artifacts=[weights])
    ledger.note(Outcome(record_id=names[0], source="user", verdict="down", score=0.0, note="no"))
    ledger.forget(record_id=names[1])
    return names


def _pages(where: str) -> list[Page]:
    with Audit.open(where) as audit:
        assert audit.verify().ok
        return list(audit.pages())


def test_a_log_moves_to_the_other_database_and_back(
    where: str,
    filled: list[str],
    ledger: Ledger,
    ask: Ask,
    tmp_path: Path,
    postgres_place: Callable[[], str],
) -> None:
    other = str(tmp_path / "moved.db") if where.startswith("postgresql") else postgres_place()
    moved = moving.migrate(ledger.place, Place.of(other))
    assert moved.counts["events"] == 12
    assert (moved.counts["people"], moved.counts["running"]) == (4, 1)
    assert _pages(other) == _pages(where)
    with Audit.open(other) as audit:
        assert [row.id for row in audit.summaries(Filter(text="prompt 2"))] == [filled[2]]
    with Ledger.open(other, code="test") as there:
        there.finish(filled[4], "completed", answer="finished over there")
        there.retain(Limits(None, "2999-01-01T00:00:00.000000Z"))
    assert _pages(other) == []
    with pytest.raises(UsageError, match="holds records already"):
        moving.migrate(ledger.place, Place.of(other))


def test_a_copy_that_differs_is_taken_back(
    log: Path, where: str, filled: list[str], ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "TABLES", tuple(t for t in moving.TABLES if t.name != "content_uses"))
    counts = iter(({"a": 1}, {"a": 2}))
    monkeypatch.setattr(moving, "_counts", lambda _: next(counts))
    with pytest.raises(VerifyError, match="differs from its source"):
        moving.migrate(ledger.place, Place.of(tmp_path / "copy.db"))
    assert _pages(str(tmp_path / "copy.db")) == []


def test_backup_and_restore(where: str, filled: list[str], ledger: Ledger, ask: Ask, tmp_path: Path) -> None:
    copy, back = tmp_path / "copy.db", tmp_path / "new" / "log.db"
    before = _pages(where)
    saved = moving.backup(ledger.place, copy)
    ledger.begin(ask("after the backup"))
    assert _pages(str(copy)) == before
    assert saved.verified.rows == 14
    with pytest.raises(UsageError, match="exists already"):
        moving.backup(ledger.place, copy)
    moving.restore(copy, Place.of(back))
    assert _pages(str(back)) == before
    assert [path.name for path in back.parent.iterdir()] == ["log.db"]
    with pytest.raises(UsageError, match="there is a log"):
        moving.restore(copy, Place.of(back))


def test_a_damaged_backup_is_not_restored(
    log: Path, filled: list[str], ledger: Ledger, tmp_path: Path
) -> None:
    import sqlite3

    copy = tmp_path / "copy.db"
    moving.backup(ledger.place, copy)
    connection = sqlite3.connect(copy)
    connection.execute("UPDATE content SET text = 'another' WHERE text = 'no'")
    connection.commit()
    connection.close()
    with pytest.raises(VerifyError, match="does not verify"):
        moving.restore(copy, Place.of(tmp_path / "back.db"))
    assert not (tmp_path / "back.db").exists()
    with pytest.raises(StoreMissingError):
        moving.backup(Place.of(tmp_path / "nothing.db"), tmp_path / "x.db")


def test_flat_rows(filled: list[str], audit: Audit, tmp_path: Path) -> None:
    out = io.StringIO(newline="")
    assert write_csv(audit.pages(), out) == 5
    rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    assert [row["id"] for row in rows] == filled
    assert (rows[0]["chosen"], rows[0]["p_correct"], rows[0]["mean_score"]) == ("arithmetic", "0.97", "0.0")
    assert rows[0]["prompt"].startswith("'=prompt 0")  # a spreadsheet would run it
    assert rows[1]["prompt"] == ""
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    assert write_parquet(audit.pages(), path, texts=False) == 5
    table = pyarrow_parquet.read_table(path)
    assert table.column_names == [column.name for column in COLUMNS if not column.is_text]
    assert table["id"].to_pylist() == filled
    assert table["propensity"].to_pylist() == [0.9, 0.9, 0.9, 0.9, None]


def test_a_record_pack_tells_the_period_and_can_be_checked(
    filled: list[str], audit: Audit, tmp_path: Path
) -> None:
    target = tmp_path / "pack.zip"
    packed = write_pack(audit, target)
    with zipfile.ZipFile(target) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    assert (packed.records, packed.rows, manifest["records"]) == (5, 12, 5)
    assert manifest["verification"]["ok"]
    for name, digest in manifest["files"].items():
        assert hashlib.sha256(files[name]).hexdigest() == digest
    rows = [json.loads(line) for line in files["events.jsonl"].splitlines()]
    for row in rows:  # as the README says
        assert seal(row["prev_hash"], row) == row["row_hash"]
    what = [json.loads(line)["what"] for line in files["incidents.jsonl"].splitlines()]
    assert {"escalation", "low score", "texts erased", "in_progress"} <= set(what)
    versions = json.loads(files["versions.json"])
    assert {one["kind"] for one in versions} == {"adapter", "code", "policy"}
    assert "texts.jsonl" not in files
    for name, data in files.items():
        assert b"prompt 2" not in data, name
    assert b"does not show" in b" ".join(files["README.txt"].split())
    with pytest.raises(UsageError, match="exists already"):
        write_pack(audit, target)
    late = write_pack(audit, tmp_path / "late.zip", since="2999-01-01T00:00:00Z", texts=True)
    assert (late.records, late.rows) == (0, 0)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """An Ed25519 key pair in PEM files, as openssl makes them."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    plain = form.NoEncryption()
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, plain))
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signed_tip_vouches(keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    tip = Tip(sequence=9, row_hash="ab" * 32)
    signed = sign(tip, private)
    text = signed.model_dump_json()
    assert checked(text, public) == checked(text, None) == str(tip)
    for change in (
        {"tip": f"8:{'ab' * 32}"},
        {"signed_at": "2020-01-01T00:00:00Z"},
        {"signature": "0" * 128},
    ):
        with pytest.raises(VerifyError, match="not good"):
            checked(signed.model_copy(update=change).model_dump_json(), public)
    with pytest.raises(VerifyError, match="was signed with the key"):
        checked(signed.model_copy(update={"public_key": "ab" * 32}).model_dump_json(), public)
    with pytest.raises(UsageError, match="no signed tip"):
        checked("{}", public)
    with pytest.raises(UsageError, match="openssl genpkey"):
        sign(tip, public)
    with pytest.raises(UsageError, match="cannot be read"):
        sign(tip, tmp_path / "no.pem")
