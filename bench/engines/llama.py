"""llama.cpp among the contenders: its own `llama-batched-bench`, each round a process that times itself.

Its time is that of its steps alone: starting, reading the file and choosing tokens are not in it. Weights are
rounded by its own quantizer (Q8_0, Q4_0: 32 columns a scale), embedding and head too; activations are 8 bits.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...specialists.improve.export_gguf import describe, gguf_name
from ...specialists.weights import read_json, read_model_tensors
from ...store.errors import UsageError
from .contenders import Times

PROGRAM = "llama-batched-bench"
FORMS = {8: "Q8_0", 4: "Q4_0"}
WAIT = 600.0
TRIES = 12  # it may end before its last lines are out


def program_in(folder: Path) -> Path:
    """The program in a folder where llama.cpp was built. Raises UsageError where it is not."""
    for place in (folder / PROGRAM, folder / "bin" / PROGRAM):
        if place.is_file():
            return place
    raise UsageError(f"there is no {PROGRAM} in {folder}: build llama.cpp, and name its build folder")


def write_file(model: Path, target: Path, bits: int) -> None:
    """Write a model folder as GGUF with all its matrices rounded to `bits`, and no tokenizer."""
    import gguf

    config = read_json(model / "config.json")
    form = gguf.GGMLQuantizationType[FORMS[bits]]
    writer: Any = gguf.GGUFWriter(target, str(config["model_type"]))
    describe(writer, config, model)
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in read_model_tensors(model).items():
        data = tensor.float().numpy()
        if data.ndim == 2:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(data, form), raw_dtype=form)
        else:
            writer.add_tensor(gguf_name(name), data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@dataclass(eq=False)
class Llama:
    """One file at its best number of threads, which is found once for each size of batch."""

    name: str
    program: Path
    file: Path
    most: int
    best: dict[int, int] = field(default_factory=dict)

    def run(self, prompts: Sequence[Sequence[int]], tokens: int) -> Times:
        count, length = len(prompts), len(prompts[0])
        if count not in self.best:
            tried = {t: self._timed(count, length, max(tokens, 4), t).token for t in range(1, self.most + 1)}
            self.best[count] = min(tried, key=lambda t: tried[t])
        return self._timed(count, length, tokens, self.best[count])

    def _timed(self, count: int, length: int, tokens: int, threads: int) -> Times:
        room = count * -(-(length + tokens + 1) // 256) * 256  # it rounds each sequence's share down to 256
        asked = {"-m": self.file, "-c": room, "-b": 2048, "-ub": 512, "-t": threads, "-tb": self.most,
                 "-npp": length, "-ntg": tokens, "-npl": count, "--output-format": "jsonl",
                 "-lv": 4}  # fmt: skip
        words = [str(word) for pair in asked.items() for word in pair]
        for _ in range(TRIES):
            done = subprocess.run(
                [self.program, *words], capture_output=True, text=True, timeout=WAIT, check=False
            )
            told = [line for line in done.stdout.splitlines() if line.startswith("{")]
            if told or done.returncode:
                break
        if not told or done.returncode:
            raise UsageError(f"{self.program} left with {done.returncode}: {done.stderr[-300:]}")
        found = json.loads(told[-1])
        return Times(float(found["t_pp"]), float(found["t_tg"]) / tokens)


def llama_contenders(program: Path, model: Path, threads: int) -> dict[int, Llama]:
    """llama.cpp by bits, with its files beside the model's."""
    found = {}
    for bits, form in FORMS.items():
        file = model / f"{form}.gguf"
        write_file(model, file, bits)
        found[bits] = Llama(f"llama.cpp, {form}", program, file, threads)
    return found
