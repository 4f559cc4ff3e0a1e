"""The texts of the native engine beside torch's, over a trunk that ships quantized."""

from __future__ import annotations

from pathlib import Path

import torch

from pilothouse.bench.engines import texts
from pilothouse.specialists.engines.native.model import Context, NativeModel
from pilothouse.specialists.family import Family
from pilothouse.specialists.improve.quantize import quantize_folder
from pilothouse.specialists.lean import load_lean
from pilothouse.specialists.tokenizing import ChatCodec
from pilothouse.specialists.weights import QUANTIZATION


def test_a_trunk_that_is_quantized_already_is_quantized_from_the_numbers_it_stands_for() -> None:
    family = Family.open("starter")
    assert (family.trunk_folder / QUANTIZATION).is_file()  # else this test says nothing
    found = texts.section(Context(1), family, 2, 0)
    assert [goal.met for goal in found.goals] == [True] * 4


def test_texts_of_other_weights_are_told_apart(tmp_path: Path) -> None:
    """The comparison can fail: torch reads 2 bits where the engine has 8."""
    whole = texts.written_out(Family.open("starter").trunk_folder, tmp_path / "whole")
    for bits in (8, 2):
        quantize_folder(whole, tmp_path / str(bits), bits, texts.GROUP)
    model, twin = NativeModel(Context(1), tmp_path / "8"), load_lean(tmp_path / "2", torch.float32)
    asked = next(texts.prompts(ChatCodec.load(tmp_path / "8"), 1, 0))
    found = texts.compared(model, twin, asked, 8)
    assert found.error > texts.MOST
    assert found.wrong
