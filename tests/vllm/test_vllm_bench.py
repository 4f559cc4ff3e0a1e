"""The benchmark of native against plain vLLM, on a shape that takes no time.

It comes before the tests that keep engines: ending the last of its own takes down what they share.
"""

from __future__ import annotations

from pathlib import Path

from tiny_shape import TINY

from pilothouse.bench.engines.shapes import make_folder
from pilothouse.bench.engines.vllm_native import Bench


def test_both_engines_run_every_pair_and_say_the_same(tmp_path: Path) -> None:
    make_folder(TINY, tmp_path / "model", 0)
    bench = Bench(TINY, tmp_path / "model", 0, True, lambda line: None, tmp_path, counts=(1,))
    section = bench.section(rounds=1)
    assert [goal.note for goal in section.goals] == [""] * 4
    assert all(goal.found is not None for goal in section.goals)
    assert len(section.rows) == 8
    for note in section.notes:  # all the same, or but for ties within a step of bf16
        gap = float(note.rpartition("at most ")[2].split()[0]) if "apart" in note else 0.0
        assert gap < 0.05, note
