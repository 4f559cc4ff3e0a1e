"""`pilothouse steer`: an entry is found, judged on held-out prompts, and enters a policy only if admitted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from toy_family import Tiny, toy_prompts
from typer.testing import CliRunner

from pilothouse.agents.cli.steer import app
from pilothouse.router.steer.admission import Admission, Arm, identity
from pilothouse.router.steer.making import load_rivals, load_vectors
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.subject import Exercise, read_exercises
from pilothouse.store.errors import UsageError


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Every third reference is one that the toy never gives: right and wrong answers for a correlation."""
    rows = []
    for i, prompt in enumerate(dict.fromkeys(toy_prompts("sums", 150, 5))):
        answer = "numbers" if i % 3 else "nothing like it"
        rows.append(json.dumps({"prompt": prompt, "answer": answer, "check": "contains"}))
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(rows[:60]))
    return path


@pytest.fixture
def neutral(tmp_path: Path) -> Path:
    path = tmp_path / "neutral.txt"
    path.write_text("The word you ask about is ready for you now.\nWhat is the plural of dog, please?\n")
    return path


def admission(vectors: tuple[SteeringVector, ...], p: float) -> Admission:
    arms = tuple(
        Arm(name, 0.5, 1.0, 0.2, 0.1, p) for name in ("no steering", "random directions", "shuffled")
    )
    return Admission(
        identity(vectors), tuple(v.name for v in vectors), 40, 0.7, 1.0, arms, 0.01, 0.05, 0.0, None
    )


def entry(folder: Path, fingerprint: str) -> tuple[SteeringVector, ...]:
    one = SteeringVector("found", "add", 1, 0.5, "generation", torch.ones(32) * 0.1, fingerprint=fingerprint)
    one.save(folder / "vectors" / "found")
    return (one,)


def test_find_leaves_an_entry_with_its_rivals_and_gate_judges_it(
    tiny: Tiny, tasks: Path, neutral: Path, tmp_path: Path
) -> None:
    out = tmp_path / "entry"
    given = ["-s", "sums", "--family", str(tiny.folder), "--tasks", str(tasks), "--neutral", str(neutral)]
    given += ["--max-tokens", "12", "--budget", "5"]
    done = CliRunner().invoke(app, ["find", "corrsteer", *given, "--out", str(out)])
    assert done.exit_code in (0, 1), done.output
    assert "effect" in done.stdout
    tried = json.loads((out / "choice.json").read_text())["tried"]
    assert {row[0] for row in tried} == {"L2"}
    assert (out / "choice.svg").read_text().startswith("<svg")
    vectors = load_vectors(out / "vectors")
    assert bool(vectors) == (done.exit_code == 0)
    if vectors:
        assert len(load_rivals(out)) == 19
        judged = CliRunner().invoke(app, ["gate", str(out), *given, "--json"])
        told = json.loads(judged.stdout)
        assert judged.exit_code == (0 if told["admitted"] else 1)
        assert {arm["name"] for arm in told["arms"]} == {
            "no steering",
            "random directions",
            "shuffled labels",
        }
    again = CliRunner().invoke(app, ["find", "corrsteer", *given, "--out", str(out)])
    assert isinstance(again.exception, UsageError)
    assert "not empty" in str(again.exception)


def test_only_what_the_gate_admitted_enters(tiny: Tiny, tmp_path: Path) -> None:
    folder, out = tmp_path / "family", tmp_path / "entry"
    shutil.copytree(tiny.folder, folder)
    family = Family.open(folder)
    vectors = entry(out, family.trunk_fingerprint)
    call = ["add", str(out), "-s", "sums", "--family", str(folder)]

    def fails() -> str:
        done = CliRunner().invoke(app, call)
        assert isinstance(done.exception, UsageError), done.output
        assert Family.open(folder).vectors.keys() == {"push"}
        return str(done.exception)

    assert "has not been before the gate" in fails()
    admission(vectors, 0.2).save(out / "admission.json")
    assert "the gate refused found: not better than no steering" in fails()
    other = (SteeringVector("found", "add", 1, 9.0, "generation", torch.ones(32)),)
    admission(other, 0.001).save(out / "admission.json")
    assert "run the gate again" in fails()
    admission(vectors, 0.001).save(out / "admission.json")
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    opened = Family.open(folder)
    opened.verify()
    assert opened.vectors["found"].meta["admission"]["right"] == 0.7
    policy = opened.policy
    assert policy is not None
    assert policy.steering[-1].reading is None
    bound = policy.with_vectors(opened.vectors)
    outside = bound.plan([_reading()], "sums")
    assert [(e.name, e.reading) for e in outside.entries] == [("found", "every answer")]
    assert [e.name for e in bound.plan([_reading()], "words").entries] == []
    assert "has vectors named ['found'] already" in str(CliRunner().invoke(app, call).exception)


def _reading():  # type: ignore[no-untyped-def]
    from pilothouse.store.records import Reading

    return Reading(probe="outside", site="L1", score=-3.0, probability=0.05, threshold=0.5, fired=False)


def test_exercises_and_their_checks(tmp_path: Path) -> None:
    assert Exercise("q", "Paris").judge("paris.", True) == (True, True)
    assert Exercise("q", "Paris").judge("It is Paris", False) == (False, False)
    assert Exercise("q", "Paris", "contains").judge("It is Paris!", True).right
    assert not Exercise("q", "is", "contains").judge("This", True).right
    assert Exercise("q", "42", "number").judge("6 * 7 = 42", True) == (True, True)
    assert Exercise("q", "42", "number").judge("none", True) == (False, False)
    parts = [Exercise(f"prompt {i}", "x").part for i in range(400)]
    assert 150 < parts.count("fit") < 250
    assert 50 < parts.count("validate") < 110
    path = tmp_path / "tasks.jsonl"
    for text, said in (
        ('{"prompt": "a"}', "line 1"),
        ('{"prompt": "a", "answer": "b", "check": "guess"}', "check is 'guess'"),
        ('{"prompt": "a", "answer": "b"}', "none of them in the part"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_exercises(path)


def test_words_that_are_no_choice_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["find", "magic", "-s", "sums", "--tasks", "x", "--neutral", "y", "--out", str(tmp_path / "o")],
    )
    assert "method is 'magic'; use one of corrsteer, crl" in str(done.exception)
