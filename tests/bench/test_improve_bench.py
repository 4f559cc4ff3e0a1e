"""The frame of `bench improve` keeps what was measured, and its world is what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.bench.estimates import Estimate
from pilothouse.bench.improve import persyn, starter, toys
from pilothouse.bench.improve.lab import Lab, Piece, load, page, save
from pilothouse.bench.improve.run import measured, run
from pilothouse.bench.page import Goal, Section
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.data_tasks import answer_of
from pilothouse.store.errors import UsageError


def lab(folder: Path, quick: bool = False) -> Lab:
    return Lab(folder, (3, 4), quick, lambda line: None)


def test_a_trial_is_made_once_and_a_quick_one_is_another(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, list[float]]:
        made.append(1)
        return {"right": [0.0, 1.0]}

    first = lab(tmp_path).keep("a/0", make)
    assert lab(tmp_path).keep("a/0", make) == first == {"right": [0.0, 1.0]}
    lab(tmp_path, quick=True).keep("a/0", make)
    assert len(made) == 2


def test_a_killed_trial_leaves_nothing(tmp_path: Path) -> None:
    def dies() -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab(tmp_path).keep("a", dies)
    assert lab(tmp_path).keep("a", lambda: 7) == 7


def test_sections_measured_apart_make_one_page(tmp_path: Path) -> None:
    goal = Goal("what", "clearly above", 0.0, "%", Estimate(0.2, 0.1, 0.3, 9), "note")
    first = Section("One", "Text.", ("a", "b"), (("1", "2"),), (goal,), notes=("n",))
    second = Section("Two", "More.", goals=(Goal("other", "at most", 1.0, "", None, "no data"),))
    facts = (("command", "x"), ("commit", "c"), ("date", "d"), ("hardware", "h"), ("versions", "v"))
    pieces = {"two": Piece(second, facts), "one": Piece(first, facts)}
    save(pieces, tmp_path / "improve.json")
    assert load(tmp_path / "improve.json") == pieces
    text = page(pieces, ["one", "two", "three"], "About.").markdown()
    assert text.index("## One") < text.index("## Two")
    assert "1 of 2 targets met, 0 missed, 1 not measured" in text
    assert load(tmp_path / "none.json") == {}


def test_a_section_gets_what_it_names(tmp_path: Path) -> None:
    def section(seeds: tuple[int, ...], seed: int, quick: bool) -> Section:
        return Section(f"{seeds} {seed} {quick}", "")

    assert measured(section, lab(tmp_path)).title == "(3, 4) 3 False"
    assert measured(lambda lab: Section(str(lab.work), ""), lab(tmp_path)).title == str(tmp_path)
    with pytest.raises(UsageError, match="no section 'fly'"):
        run(["fly"], tmp_path, tmp_path, 0, 1, True)


def test_scripted_teachers_know_what_they_should() -> None:
    pairs = toys.draw(persyn.TASKS, "train", 600, 0)

    def share(teacher: str, tasks: tuple[str, ...]) -> float:
        own = [(p, a) for p, a in pairs if p.split()[0] in tasks]
        return sum(toys.final(persyn.said(teacher, p)) == a for p, a in own) / len(own)

    assert share("rambler", persyn.TASKS) == pytest.approx(0.9, abs=0.05)
    for teacher, tasks in persyn.EDGES.items():
        assert share(teacher, tasks) > 0.88
        assert share(teacher, tuple(t for t in persyn.TASKS if t not in tasks)) < 0.05
    assert share("parrot", persyn.TASKS) < 0.05
    assert persyn.said("rambler", pairs[0][0]) == persyn.said("rambler", pairs[0][0])


def test_only_what_stands_after_the_equals_sign_counts(tmp_path: Path) -> None:
    codec = toys.codec_in(tmp_path)
    text = f"a b {toys.EQUALS} {answer_of('reverse', 'cdef')}"
    assert toys.final(codec.decode(codec.encode_text(text))) == "f e d c"
    row = toys.rows_of(codec, [("reverse c d e f", text)])[0]
    assert codec.decode(row.prompt) == "reverse c d e f"
    assert row.answer[-1] == codec.end


def test_the_starter_is_compared_row_by_row_and_byte_by_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = starter.embedded()
    weights = starter.weighed(Family.open(family))
    rides = ("trunk/model.safetensors", "specialists/words/adapter_model.safetensors")
    assert weights["words"] == sum((family / name).stat().st_size for name in rides)
    alone = family / "specialists/screening/model.safetensors"
    assert weights["screening"] == alone.stat().st_size
    assert weights["all weights"] > weights["words"] + weights["screening"]
    right = {"words": {"all": [True, False, True, True]}}
    old = {"words": {"all": [True, False, False, True]}}
    doubled = {name: 2 * size for name, size in weights.items()}
    trials = iter(
        [
            {"right": old, "bytes": doubled, "stored": "not quantized"},
            {"right": right, "bytes": weights, "stored": "nsds"},
        ]
    )
    monkeypatch.setattr(starter, "kept", lambda lab, folder, data, seed: next(trials))
    found = starter.section(lab(tmp_path), family, tmp_path)
    assert found.rows[0][:4] == ("words", "4", *found.rows[0][2:4])
    assert found.rows[0][-1] == "50.0%"
    named = {goal.what: goal.found.value for goal in found.goals if goal.found is not None}
    assert named["starter v2, words: now − before"] == pytest.approx(0.25)
    assert named["starter v2, all weights: bytes by those of before"] == pytest.approx(0.5)


def test_the_starter_is_not_compared_with_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name its folder with --before"):
        run(["starter"], tmp_path, tmp_path, 0, 1, True)
