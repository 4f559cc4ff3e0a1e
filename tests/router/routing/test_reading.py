"""Tables: every form reads alike, and every fault is named with its row."""

import gzip
import json
import math
from pathlib import Path

import pytest
import torch

from pilothouse.router.routing.reading import read_table
from pilothouse.router.routing.table import key_of, leaks, require_apart, without_leaks
from pilothouse.store.errors import NotFoundError, UsageError

LONG = "prompt,model,correct,cost,group\nWhat?,a,1,0.5,x\nWhat?,b,0,2,x\nWhy?,a,false,,y\nWhy?,b,TRUE,4,y\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_three_forms_read_alike(tmp_path: Path) -> None:
    long = read_table(write(tmp_path, "t.csv", LONG))
    rows = [
        {"prompt": "What?", "model": "a", "score": 1.0, "cost": 0.5, "group": "x"},
        {"prompt": "What?", "model": "b", "correct": False, "cost": 2, "group": "x"},
        {"messages": [{"role": "user", "content": "Why?"}], "model": "a", "correct": 0, "group": "y"},
        {
            "messages": [{"role": "user", "content": "Why?"}],
            "model": "b",
            "correct": 1,
            "cost": 4,
            "group": "y",
        },
    ]
    lines = write(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(LONG.encode()))
    wide = write(tmp_path, "w.csv", "prompt,group,a,b\nWhat?,x,True,False\nWhy?,y,0,1\n")
    for path, names in ((lines, ()), (packed, ()), (wide, ("a", "b"))):
        table = read_table(path, names)
        assert table.texts == long.texts == ("What?", "Why?")
        assert table.models == ("a", "b")
        assert torch.equal(table.quality, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        assert table.groups == ("x", "y")
    assert long.prices() == {"a": 0.5, "b": 3.0}
    assert math.isnan(long.cost[1, 0])


def test_labels_that_repeat_or_disagree_are_averaged_and_said(tmp_path: Path) -> None:
    text = "prompt,model,correct\nP,a,1\nP,a,0\nP,a,1\nP,b,1\nQ,a,\nQ,b,0\nR,a,\n"
    table = read_table(write(tmp_path, "t.csv", text))
    assert table.texts == ("P", "Q")
    assert table.quality[0].tolist() == pytest.approx([2 / 3, 1.0])
    assert math.isnan(table.quality[1, 0])
    assert any("disagree" in note for note in table.notes)
    assert any("empty label" in note for note in table.notes)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.txt", "x", "no known kind"),
        ("t.csv", "", "no rows"),
        ("t.csv", "question,model,correct\na,b,1\n", "'prompt'"),
        ("t.csv", "prompt,correct\na,1\n", "--wide"),
        ("t.csv", "prompt,model\na,b\n", "'correct' or 'score'"),
        ("t.csv", "prompt,model,correct\n ,b,1\n", "row 1: prompt"),
        ("t.csv", "prompt,model,correct\na,,1\n", "row 1: model"),
        ("t.csv", "prompt,model,correct\na,b,1\nc,b,7\n", "row 2: the label is '7'"),
        ("t.csv", "prompt,model,correct\na,b,nan\n", "the label is 'nan'"),
        ("t.csv", "prompt,model,correct,cost\na,b,1,nan\n", "cost is 'nan'"),
        ("t.csv", "prompt,model,correct,cost\na,b,1,-3\n", "cost is '-3'"),
        ("t.csv", "prompt,model,correct,latency\na,b,1,fast\n", "latency is 'fast'"),
        ("t.csv", "prompt,model,correct\na,b,1,9\n", "more cells than the header"),
        ("t.jsonl", '{"prompt": "a"\n', "line 1 is no JSON"),
        ("t.jsonl", "[1]\n", "not an object"),
        (
            "t.jsonl",
            '{"messages": [{"role": "wizard", "content": "a"}], "model": "m", "correct": 1}\n',
            "role",
        ),
        ("t.jsonl", '{"prompt": 3, "model": "m", "correct": 1}\n', "prompt is 3"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_table(write(tmp_path, name, text))
    assert words in str(caught.value)


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_table(tmp_path / "none.csv")
    path = tmp_path / "latin.csv"
    path.write_bytes("prompt,model,correct\né,b,1\n".encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        read_table(path)


def test_any_script_and_lone_surrogates(tmp_path: Path) -> None:
    texts = ["日本語の質問", "سؤال", "вопрос", "\ud83d broken", "🤖?", "a\u0000b"]
    lines = "\n".join(json.dumps({"prompt": t, "model": "m", "correct": i % 2}) for i, t in enumerate(texts))
    table = read_table(write(tmp_path, "t.jsonl", lines))
    assert len(table) == 6
    assert len(set(table.key_numbers.tolist())) == 6
    "".join(table.texts).encode()


def test_one_class_is_refused(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "t.csv", "prompt,model,correct\na,m,1\nb,m,1\n"))
    with pytest.raises(UsageError, match="all 2 labels are 1"):
        table.require_learnable()


def test_leaks_are_found_through_case_and_spacing(tmp_path: Path) -> None:
    assert key_of("What  IS it?") == key_of("what is it") != key_of("what is")
    assert key_of("What is 2 + 3?") != key_of("What is 2 - 3?")
    text = "prompt,model,correct,split\nOne?,m,1,train\none ?,m,0,test\nTwo,m,0,train\nThree,m,1,test\n"
    table = read_table(write(tmp_path, "t.csv", text))
    with pytest.raises(UsageError, match="1 prompts are in two splits"):
        require_apart(table)
    clean = without_leaks(table)
    require_apart(clean)
    assert clean.texts == ("one ?", "Two", "Three")
    train, test = (
        table.take([i for i, s in enumerate(table.splits) if s == name]) for name in ("train", "test")
    )
    assert leaks(train, test) == [0]


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "t.csv", LONG))
    assert table.with_models(["b"]).models == ("b",)
    with pytest.raises(UsageError, match="no model 'c'"):
        table.with_models(["c"])
