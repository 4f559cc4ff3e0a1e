"""How much memory a model takes in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..estimates import Estimate
from ..page import Goal, Section

# The fresh process imports everything first: what it holds then is Python's and torch's, not the model's.
CODE = """
import json, sys
from pathlib import Path
import torch
from pilothouse.specialists.engines.native.model import Context, NativeModel
from pilothouse.specialists.engines.native.run import Run

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

context = Context(1)
torch.zeros(1)
before = resident()
model = NativeModel(context, Path(sys.argv[1]), lambda name: 4)
sequence = model.sequence()
for _ in range(2):
    run = Run(sequence, [1] * 128, draw=True)
    model.step([run])
    assert run.status == 0, run.status
found = {"before": before, "after": resident(), "weights": model.weight_bytes, "cache": model.cache_bytes}
print(json.dumps(found))
"""
MB = 1e6


def measured(folder: Path) -> dict[str, int] | None:
    """Load a folder at 4 bits in a new process, read 256 tokens, and return its bytes: `before` and `after`,
    `weights`, `cache`. None where the system does not tell.
    """
    if not Path("/proc/self/status").is_file():
        return None
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, str(folder)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return {name: int(value) for name, value in found.items()}


def section(name: str, folder: Path, judged: bool) -> Section:
    """Say what the model of a folder takes; `judged` where the target is for this shape."""
    found = measured(folder)
    title = f"{name}: memory"
    if found is None:
        return Section(title, "Not measured: this system does not tell a process's memory.")
    own, needed = found["after"] - found["before"], found["weights"] + found["cache"]
    ratio = Estimate(own / needed, own / needed, own / needed, 1)
    goal = Goal(f"{name}, 4 bits: resident memory over weights and cache", "at most", 1.15, "×", ratio)
    cells = (found["weights"], found["cache"], own, found["after"])
    return Section(
        title,
        "Weights of 4 bits, rounded when loaded, in a fresh process after reading 256 tokens. `added` is "
        "what the process holds more than after its imports; it is what the target is about.",
        ("weights", "cache", "added", "the whole process, Python and torch included"),
        (tuple(f"{value / MB:.1f} MB" for value in cells),),
        (goal,) if judged else (),
    )
