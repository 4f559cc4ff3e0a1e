"""The benchmark of texts: a quantized decoder agrees with its twin, and not with another model."""

from __future__ import annotations

from pathlib import Path

import torch

from pilothouse.bench.engines.texts import compared, prompts
from pilothouse.specialists.engines.native.model import Context, NativeModel
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.lean import load_lean
from pilothouse.specialists.tokenizing import ChatCodec


def test_a_twin_agrees_and_a_stranger_does_not(tiny_folder: Path, tmp_path: Path) -> None:
    quantize_folder(tiny_folder, tmp_path / "four", 4, 32)
    quantize_folder(tiny_folder, tmp_path / "two", 2, 32)
    model = NativeModel(Context(1), tmp_path / "four")
    twin, stranger = (load_lean(tmp_path / name, torch.float32) for name in ("four", "two"))
    asked = list(prompts(ChatCodec.load(tiny_folder), 8, 0))
    assert len(set(asked)) == 8
    same = [compared(model, twin, prompt, 6) for prompt in asked]
    assert [one.wrong for one in same] == [0] * 8
    assert max(one.error for one in same) < 2e-3
    other = [compared(model, stranger, prompt, 6) for prompt in asked]
    assert min(one.error for one in other) > 0.05
    assert sum(one.wrong for one in other) > 8
