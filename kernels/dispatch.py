"""Which implementation of a kernel runs: the plain twin, the fast torch path, or Triton.

`plain` is the shortest correct expression; every other path is tested against it. `fast` is torch operators
in the order that suits a CPU. `triton` is a fused kernel for a GPU. `auto` takes `triton` on a GPU that has
it and where no gradient is asked for, else `fast`; it never fails for want of a path.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Final, Literal, get_args

import torch
from torch import Tensor

Path = Literal["plain", "fast", "triton"]
Backend = Literal["auto", "plain", "fast", "triton"]
BACKENDS: Final = get_args(Backend)


@cache
def has_triton() -> bool:
    """Whether Triton is installed; nothing of it is imported."""
    return find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton kernels run under their interpreter (TRITON_INTERPRET=1), on any device and slowly."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def choose(asked: Backend, *tensors: Tensor, traceable: bool = True) -> Path:
    """Return the path for a call on `tensors`. Where the fast path's shapes depend on data it is not
    `traceable`, and `auto` takes `plain` while torch compiles.

    Raises ValueError for an unknown backend, tensors on several devices, and a requested `triton` that is not
    installed, has no GPU here or would have to give a gradient.
    """
    if asked not in BACKENDS:
        raise ValueError(f"backend {asked!r} is unknown; it is one of {', '.join(BACKENDS)}")
    devices = {one.device for one in tensors}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"the tensors lie on {names}; a kernel reads one device; move them together")
    if asked == "triton":
        _require_triton(devices.pop(), tensors)
    if asked != "auto":
        return asked
    if torch.compiler.is_compiling():
        return "fast" if traceable else "plain"
    fused = has_triton() and devices.pop().type == "cuda" and all(map(_exact, tensors))
    return "triton" if fused and not _needs_gradient(tensors) else "fast"


def _exact(x: Tensor) -> bool:
    """Whether the kernels, which sum in float32, lose nothing of it."""
    return x.dtype != torch.float64


def _needs_gradient(tensors: tuple[Tensor, ...]) -> bool:
    return torch.is_grad_enabled() and any(one.requires_grad for one in tensors)


def _require_triton(device: torch.device, tensors: tuple[Tensor, ...]) -> None:
    if not has_triton():
        raise ValueError("backend 'triton' needs the package triton; install it, or take 'auto'")
    if device.type != "cuda" and not interpreted():
        raise ValueError(
            f"backend 'triton' runs on a GPU, these tensors lie on {device}; move them, or take 'auto' "
            "(tests start Python with TRITON_INTERPRET=1)"
        )
    if not all(map(_exact, tensors)):
        raise ValueError(
            "backend 'triton' sums in float32, these tensors hold float64; convert, or take 'auto'"
        )
    if _needs_gradient(tensors):
        raise ValueError("backend 'triton' gives no gradient; take 'plain', or call it under no_grad")


def precision() -> str:
    """How Triton multiplies float32 matrices: as torch was told to (`set_float32_matmul_precision`)."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
