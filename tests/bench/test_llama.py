"""llama.cpp among the contenders: its file, its program's answers, and the program that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pilothouse.bench.engines.llama import Llama, llama_contenders, program_in, write_file
from pilothouse.bench.engines.shapes import Shape, make_folder
from pilothouse.kernels.quant import dequantize, quantize
from pilothouse.specialists.weights import read_model_tensors
from pilothouse.store.errors import UsageError

gguf = pytest.importorskip("gguf")
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 160,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
# answers by what it was asked: two threads are slower than one, but not for eight requests
FAKE = """#!/bin/sh
while [ $# -gt 1 ]; do case $1 in -t) t=$2;; -npl) n=$2;; -ntg) g=$2;; -npp) p=$2;; esac; shift 2; done
echo "told on stderr" >&2
if [ "$p" = 13 ]; then echo "the file is damaged" >&2; exit 3; fi
if [ "$n" = 8 ]; then s=0.$((8 - t)); else s=0.$t; fi
echo '| a table |'
echo "{\\"t_pp\\": 0.25, \\"t_tg\\": $s}"
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_folder(Shape("tiny", "tiny", SIZES, {1: 2}, 1), tmp_path / "model", 0)
    return tmp_path / "model"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "llama-batched-bench"
    path.write_text(FAKE)
    path.chmod(0o755)
    return program_in(tmp_path)


@pytest.mark.parametrize("bits", [8, 4])
def test_every_matrix_is_rounded_and_nothing_else(model: Path, tmp_path: Path, bits: int) -> None:
    target = tmp_path / "model.gguf"
    write_file(model, target, bits)
    found = {one.name: one for one in gguf.GGUFReader(target).tensors}
    tensors = read_model_tensors(model)
    assert len(found) == len(tensors)
    matrices = [name for name, one in found.items() if one.tensor_type.name == f"Q{bits}_0"]
    assert len(matrices) == sum(t.ndim == 2 for t in tensors.values())
    assert {one.tensor_type.name for name, one in found.items() if name not in matrices} == {"F32"}
    kept = found["blk.1.ffn_gate.weight"]
    wanted = tensors["model.layers.1.mlp.gate_proj.weight"].float()
    read = torch.from_numpy(gguf.quants.dequantize(kept.data, kept.tensor_type))
    ours = (dequantize(quantize(wanted, bits, 32)) - wanted).norm()
    assert float((read - wanted).norm()) == pytest.approx(float(ours), rel=0.2)


def test_it_is_run_at_its_best_number_of_threads(program: Path, model: Path) -> None:
    rivals = llama_contenders(program, model, 2)
    assert {bits: one.name for bits, one in rivals.items()} == {8: "llama.cpp, Q8_0", 4: "llama.cpp, Q4_0"}
    one = rivals[8]
    alone, eight = one.run([[1] * 16], 10), one.run([[1] * 16] * 8, 10)
    assert one.best == {1: 1, 8: 2}
    assert (alone.prompt, alone.token) == (0.25, pytest.approx(0.01))
    assert eight.token == pytest.approx(0.06)


def test_what_fails_is_told(program: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"left with 3: (?s:.*)the file is damaged"):
        Llama("x", program, tmp_path / "none.gguf", 1).run([[1] * 13], 4)
    with pytest.raises(UsageError, match=r"no llama-batched-bench in .*empty"):
        program_in(tmp_path / "empty")
