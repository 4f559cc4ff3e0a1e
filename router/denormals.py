"""Numbers too small for a normal float, taken as zero while something is learnt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def as_zero() -> Iterator[None]:
    """Let this thread take denormal numbers as zero inside; also a decorator.

    A very sure softmax leaves gradients of that size, and a CPU is many times slower at them. The mode holds
    for every float of the thread, Python's too, so it is put back.
    """
    before = sys.float_info.min / 2 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
