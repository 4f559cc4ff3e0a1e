"""The benchmark of native against plain vLLM, on a shape that takes no time.

It comes before the tests that keep engines: ending the last of its own takes down what they share.
"""

from __future__ import annotations

from pathlib import Path

from pilothouse.bench.engines.shapes import Shape, make_folder
from pilothouse.bench.engines.vllm_native import Bench

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "vocab_size": 192,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def test_both_engines_run_every_pair_and_say_the_same(tmp_path: Path) -> None:
    shape = Shape("tiny", "tiny", SIZES, {8: 2}, 1)
    make_folder(shape, tmp_path / "model", 0)
    bench = Bench(shape, tmp_path / "model", 0, True, lambda line: None, tmp_path, counts=(1,))
    section = bench.section(rounds=1)
    assert [goal.note for goal in section.goals] == [""] * 4
    assert all(goal.found is not None for goal in section.goals)
    assert len(section.rows) == 8
    for note in section.notes:  # all the same, or but for ties within a step of bf16
        gap = float(note.rpartition("at most ")[2].split()[0]) if "apart" in note else 0.0
        assert gap < 0.05, note
