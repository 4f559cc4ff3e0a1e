"""Shapes of models, memory and speed of this machine: what estimates are made from."""

from __future__ import annotations

import json
import resource
import struct
import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ..weights import read_json
from .step import Estimate, Preview, Size

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
ADAM = 16  # bytes a trained parameter: weight, gradient, two moments, fp32
OVERHEAD = 2e-3  # seconds a layer and step, however small
ACTIVATIONS = 34  # fp32 values of width d that a layer keeps for its backward pass, about (Korthikanti, 2022)


def size_of(folder: Path) -> Size:
    """Return the shape of a model folder, read from its config and the heads of its safetensors."""
    config = read_json(folder / "config.json")
    config = config.get("text_config", config)
    width = int(config.get("hidden_size") or config.get("n_embd") or 0)
    return Size(
        sum(prod(shape) for name in sorted(folder.glob("*.safetensors")) for shape in _shapes(name)),
        int(config.get("num_hidden_layers") or config.get("n_layer") or 0),
        width,
        int(config.get("intermediate_size") or config.get("n_inner") or 4 * width),
        int(config.get("vocab_size") or 0),
    )


def _shapes(path: Path) -> Iterator[list[int]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))

        head: dict[str, Any] = json.loads(file.read(length))
    return (value["shape"] for name, value in head.items() if name != "__metadata__")


def training(
    size: Size, preview: Preview, steps: int, rows: int, length: int, trained: float = 1.0
) -> Estimate:
    """Estimate training of ``steps`` batches of ``rows`` sequences of ``length`` tokens.

    ``trained`` is the share of the parameters that learn. 6 floating-point operations a parameter and token
    (Kaplan et al., 2020), 2 less for what is frozen. Activations: what a layer keeps, and logits with their
    gradient and their softmax.
    """
    tokens = rows * length
    flops = (4 + 2 * trained) * size.parameters * tokens * steps
    kept = 4 * tokens * size.layers * (ACTIVATIONS * size.width / 4 + 3 * size.feed)
    logits = 4 * 4 * tokens * size.vocabulary
    learning = (ADAM - 4) * trained * size.parameters
    saved = 2 * size.parameters + int(12 * trained * size.parameters)
    # the checkpoint is copied once while it is written
    memory = 4 * size.parameters + learning + max(kept + logits, 12 * trained * size.parameters)
    seconds = flops / preview.speed + steps * size.layers * OVERHEAD
    return Estimate(seconds, int(memory), saved)


def answering(size: Size, preview: Preview, prompts: int, tokens: int = 32) -> Estimate:
    """Estimate greedy answers of ``tokens`` tokens to ``prompts`` prompts; small batches run at a quarter."""
    flops = 2 * size.parameters * prompts * 2 * tokens
    return Estimate(4 * flops / preview.speed, 4 * size.parameters, 0)


def measured_speed(seconds: float = 0.05) -> float:
    """Return the floating-point operations a second that training reaches here: half of what a matrix
    product does.
    """
    import torch

    a = torch.rand(256, 256)
    a @ a
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        a @ a
        done += 1
    return 0.5 * done * 2 * 256**3 / (time.perf_counter() - begun)


def _status(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return _status("VmRSS") if STATUS.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def loaded() -> int:
    """Bytes that this process holds once it has loaded the libraries that every step needs; an estimate says
    what comes on top.
    """
    from transformers import PreTrainedModel  # noqa: F401 - a step that looked first would count them as its own

    return resident()


def reset_peak() -> None:
    """Start to measure the peak anew, where the system can."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return


def peak() -> int:
    """Bytes of memory that this process held at most since ``reset_peak``."""
    return _status("VmHWM") if STATUS.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
