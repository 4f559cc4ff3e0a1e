"""Data is read whole or refused with the line that is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import huggingface_hub
import pytest
from pydantic import ValidationError

from pilothouse.specialists.improve.data import Table, load
from pilothouse.specialists.improve.data_tasks import TASKS, generate
from pilothouse.specialists.improve.guard import guarded, register_tests
from pilothouse.store.errors import UsageError


def table(**values: object) -> Table:
    return Table.model_validate({"licence": "CC0"} | values)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"q": "x", "answer": "1"}\n\n{"q": "y", "answer": 2}\n'),
        ("a.json", '[{"q": "x", "answer": "1"}, {"q": "y", "answer": 2}]'),
        ("a.csv", "q,answer\nx,1\ny,2\n"),
        ("a.tsv", "q\tanswer\nx\t1\ny\t2\n"),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text("\ufeff" * (name == "a.csv") + text)
    found = load("d", table(file=name, columns={"prompt": "q"}), tmp_path, 0)
    assert list(found.pairs()) == [("x", "1"), ("y", "2")]
    assert (found.licence, found.columns) == ("CC0", ("prompt", "answer"))
    folder = load("d", table(folder=".", columns={"prompt": "q"}), tmp_path, 0)
    assert folder.sha256 == found.sha256


def test_a_missing_column_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "answer": "1"}\n{"prompt": "y"}\n')
    found = load("d", table(file="a.jsonl"), tmp_path, 0)
    with pytest.raises(UsageError, match=r"lacks the column 'answer' in row 2"):
        found.require(("prompt", "answer"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ('{"prompt": "é"}\n'.encode() + '{"prompt": "é"}\n'.encode("latin-1"), "mixes encodings: line 2"),
        ('{"prompt": "caf\ufffd"}\n'.encode(), "damaged by a failed decoding: line 1"),
        ('{"prompt": "é"}'.encode("utf-16"), "UTF-16"),
        (b'{"prompt": "x"}\n{"prompt": \n', "line 2 is no JSON"),
        (b'["x"]\n', "row 1 is list"),
        (b"\n", "has no rows"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(raw)
    with pytest.raises(UsageError, match=said):
        load("d", table(file="a.jsonl"), tmp_path, 0)


def test_a_ragged_table_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,a\nx,1,2\n")
    with pytest.raises(UsageError, match="row 2 has 3 fields, its header 2"):
        load("d", table(file="a.csv"), tmp_path, 0)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(UsageError, match="must end in one of"):
        load("d", table(file="a.gz"), tmp_path, 0)
    with pytest.raises(UsageError, match="does not exist"):
        load("d", table(file="b.csv"), tmp_path, 0)


def test_an_interrupted_download_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **more: object) -> str:
        raise ConnectionError("peer closed connection after 12 of 90 bytes")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(UsageError, match=r"'a/b' cannot be had .*12 of 90.*what was downloaded is kept"):
        load("d", table(hub="a/b"), tmp_path, 0)
    (tmp_path / "0123abc").mkdir()
    (tmp_path / "0123abc" / "train.jsonl").write_text('{"prompt": "x"}\n')
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(tmp_path / "0123abc"))
    assert load("d", table(hub="a/b"), tmp_path, 0).source == "hub a/b at 0123abc"


def test_a_source_needs_a_licence_and_is_one() -> None:
    with pytest.raises(ValidationError, match="under which licence"):
        Table(file="a.csv")
    with pytest.raises(ValidationError, match="exactly one of"):
        Table(file="a.csv", hub="a/b", licence="MIT")
    with pytest.raises(ValidationError, match=r"Extra inputs"):
        Table.model_validate({"file": "a.csv", "licence": "MIT", "fiel": 1})


def test_generated_splits_share_no_word_and_answers_are_right() -> None:
    train, licence = generate("symbols:sort,reverse", "train", 400, 0)
    test, _ = generate("symbols:sort,reverse", "test", 100, 0)
    assert licence == "Apache-2.0"
    assert not {r["prompt"].split(" ", 1)[1] for r in train} & {r["prompt"].split(" ", 1)[1] for r in test}
    assert len({r["prompt"] for r in train}) == 400
    for row in train[:20]:
        task, *word = row["prompt"].split()
        assert row["answer"].split() == TASKS[task](word)
    assert generate("symbols:sort,reverse", "train", 400, 0)[0] == train
    with pytest.raises(UsageError, match="no generator 'verse'"):
        generate("verse", "train", 1, 0)
    with pytest.raises(UsageError, match="no task"):
        generate("symbols:fly", "train", 1, 0)


def sets(tmp_path: Path, train: list[str], test: list[str], **more: object) -> tuple[dict, dict]:  # type: ignore[type-arg]
    for name, prompts in (("train", train), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
    tables = {"train": table(file="train.jsonl", **more), "test": table(file="test.jsonl", test=True)}
    return {n: load(n, t, tmp_path, 0) for n, t in tables.items()}, tables


LONG = "Describe how the pilot of a river boat reads the water before the bend at low tide"


def test_test_rows_in_training_are_refused_or_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match=r"holds 1 row of the test set test: row 2 \('b'\) is test row 1"):
        guarded(*sets(tmp_path, ["a", "b"], ["B "]))
    with pytest.raises(UsageError, match=r"is to \d\d% test row 1"):
        guarded(*sets(tmp_path, ["a", LONG + "."], [LONG + "s"]))
    kept, notes = guarded(*sets(tmp_path, ["a", "b"], ["b"], leaks="drop"))
    assert [r["prompt"] for r in kept["train"].rows] == ["a"]
    assert notes == ("data train: left out 1 row of the test set test",)
    with pytest.raises(UsageError, match="nothing is left"):
        guarded(*sets(tmp_path, ["b"], ["b"], leaks="drop"))


def test_repeated_rows_are_refused_dropped_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    with pytest.raises(UsageError, match="repeats 1 row: row 3 is row 1 again"):
        guarded(*sets(tmp_path, ["a", "b", "a"], ["c"]))
    assert len(guarded(*sets(tmp_path, ["a", "a"], ["c"], duplicates="drop"))[0]["train"].rows) == 1
    assert len(guarded(*sets(tmp_path, ["a", "a"], ["c"], duplicates="keep"))[0]["train"].rows) == 2


def test_a_registered_test_set_guards_later_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    register_tests(sets(tmp_path, ["a"], ["secret"])[0], "first")
    with pytest.raises(UsageError, match=r"test set first\.test \(registered\)"):
        guarded(*sets(tmp_path, ["secret"], ["other"]))
