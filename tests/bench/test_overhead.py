"""The benchmark of overheads measures what it says, on a family of random weights."""

from pathlib import Path

import pytest

from pilothouse.bench import overhead
from pilothouse.specialists.engines.toy import make_family
from pilothouse.specialists.family import Family


def test_a_trial_writes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "TOKENS", 3)
    family = Family.open(make_family(tmp_path / "toy"))
    report = overhead.run(family, tmp_path / "results", 0, True)
    text = (tmp_path / "results" / "overhead.md").read_text()
    assert [goal.what for goal in report.goals] == [
        "native, batch 1, 1 adapters: on against off",
        "native, batch 8, 3 adapters: on against off",
        "torch, batch 1, 1 adapters: on against off",
        "torch, batch 8, 3 adapters: on against off",
    ]
    assert "8 on 3 adapters, against 8 on one" in text
    for goal in report.goals:
        assert goal.found is not None
        assert 0.3 < goal.found.value < 30


def test_dressed_requests_read_and_are_not_heard(tmp_path: Path) -> None:
    from pilothouse.specialists.engines.torch import TorchEngine

    family = Family.open(make_family(tmp_path / "toy"))
    engine = TorchEngine(family, "cpu", 1)
    try:
        bench = overhead._Bench(family, engine, "torch", 1, 0)
        bare = bench.request("alpha", 3)
        plain, dressed = engine.submit_all([bare, bench.dressed(bare)])
        assert [event.token for event in plain] == [event.token for event in dressed]
        assert len(dressed.readings) == overhead.HEADS
        assert dressed.states[1].shape[1] == 32
    finally:
        engine.close()
