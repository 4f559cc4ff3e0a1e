"""The benchmark of overheads measures what it says, on a family of random weights."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from pilothouse.bench import overhead
from pilothouse.specialists.engines.base import Request
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
    assert text.count("several tokens in one call") == 1
    for goal in report.goals:
        assert goal.found is not None
        assert 0.3 < goal.found.value < 30


def test_several_tokens_in_one_call_are_measured_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both contenders draw the same tokens, one of them in fewer steps; the constant is as before."""
    from pilothouse.specialists.engines.native import batch
    from pilothouse.specialists.engines.native.engine import NativeEngine
    from pilothouse.specialists.engines.native.run import Steps

    monkeypatch.setattr(batch, "PAUSE", 1e3)
    family = Family.open(make_family(tmp_path / "toy"))
    engine, seen = NativeEngine(family, 1), dict[int, list[list[int]]]()
    try:
        bench, calls = overhead._Bench(family, engine, "native", 1, 0), dict[int, int]()
        advance = Steps.make

        def counted(steps: Steps, stops: array[int] | None = None) -> None:
            calls[batch.MOST] = calls.get(batch.MOST, 0) + 1
            advance(steps, stops)

        def answer(requests: Sequence[Request]) -> float:
            streams = engine.submit_all(requests, wait=None)
            seen.setdefault(batch.MOST, []).extend([event.token for event in stream] for stream in streams)
            return 1.0

        monkeypatch.setattr(Steps, "make", counted)
        monkeypatch.setattr(bench, "answer", answer)
        section = bench.steps()
    finally:
        engine.close()
    assert [row[0] for row in section.rows] == ["batch 1", "batch 8"]
    assert batch.MOST == 8
    assert seen[1] == seen[8]
    assert max(map(len, seen[8])) > 4
    assert calls[8] < calls[1]


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
