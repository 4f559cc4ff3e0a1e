"""Recipe step that makes the distilled student: fewer layers, its own weights, shipped as int8."""

from __future__ import annotations

import shutil

from ..adapters import AdapterBank
from ..improve.distill import Distilling, distill, shallow
from ..improve.quantize import quantize_folder
from . import corpus, makers
from .language import copy_file
from .work import Work

LAYERS = (0, 1, 2, 3)
SHAPE = Distilling(rows=64, steps=300, rate=1e-3, soft=0.5, answers=6)
LESSONS = 12_000
BITS, GROUP = 8, 64


def make_student(work: Work) -> None:
    """Distill the trunk with the student's adapter into its first layers, then quantize the result."""
    model, codec = makers.open_trunk(work)
    bank = AdapterBank(model)
    name = makers.STUDENT
    bank.load(name, work.path("adapters", name))
    lessons = corpus.draw(name, "train", LESSONS, work.seed + 5, work.sources)
    trained, run = work.path("student.bf16"), work.path("student.run")
    distill(bank, name, codec, lessons, shallow(model, LAYERS), SHAPE, run, trained, work.say)
    bank.close()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        copy_file(work.path("trunk", file), trained / file)
    shutil.rmtree(work.path("student"), ignore_errors=True)
    report = quantize_folder(trained, work.path("student"), BITS, GROUP)
    work.say(
        f"student: {report.bytes_before / 1e6:.1f} MB to {report.bytes_after / 1e6:.1f} MB, "
        f"relative error {report.relative_error:.4f}"
    )
