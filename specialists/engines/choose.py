"""Choose the engine for a family: the native one on a CPU where it can, else the torch one.

What a user named works or fails loudly; what is chosen here falls back, and `why_not_native` says why.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from ...store.errors import PilothouseError, UsageError
from ..family import Family
from ..leanconfig import LeanConfig, NotLean
from ..weights import read_json
from .base import BatchEngine, NotOffered

EngineName = Literal["auto", "native", "torch", "vllm"]


def open_engine(
    family: Family, name: str = "auto", device: str = "auto", threads: int | None = None, **options: Any
) -> BatchEngine:
    """Open a family with the engine `name`; `options` go to that engine (`capacity`, `verify`, ...).

    Raises:
        UsageError: there is no such engine, or the native one is named with a device that is no CPU.
        NotOffered: the native or the vllm engine is named and cannot run this family here.
        PilothouseError: as the engine itself raises.
    """
    if name not in get_args(EngineName):
        raise UsageError(f"engine {name!r} is unknown: use one of {', '.join(get_args(EngineName))}")
    if name == "vllm":
        from .vllm.engine import VllmEngine

        return VllmEngine(family, threads, **options)
    reason = None if name == "torch" else why_not_native(family, device)
    if name == "torch" or (name == "auto" and reason is not None):
        from .torch import TorchEngine

        return TorchEngine(family, device, threads, **options)
    if reason is not None:
        raise NotOffered(f"the native engine cannot be used: {reason}")
    from .native.engine import NativeEngine

    return NativeEngine(family, threads, **options)


def why_not_native(family: Family, device: str = "auto") -> str | None:
    """Say why the native engine cannot run this family on this device; None if it can."""
    if device not in ("auto", "cpu"):
        return f"it runs on a CPU, not on {device!r}"
    if device == "auto":
        import torch

        if torch.cuda.is_available():
            return "there is a GPU, which the torch engine uses"
    students = [family.specialist_folder(n) for n, card in family.cards.items() if card.kind == "student"]
    try:
        for folder in (family.trunk_folder, *students):
            LeanConfig.read(read_json(folder / "config.json"))
    except NotLean as error:
        return str(error)
    return why_no_library()


def why_no_library() -> str | None:
    """Say why the native library cannot be loaded or compiled; None if it can. Compiles it on first use."""
    try:
        from .native.library import library

        library()
    except PilothouseError as error:
        return str(error)
    return None


def described(family: Family, device: str = "auto") -> tuple[bool, str]:
    """Whether a family runs natively on this device, and in words how, or why not."""
    reason = why_not_native(family, device)
    if reason is not None:
        return False, f"torch; the native engine is not used: {reason}"
    from .native.library import kernels, ready

    names = kernels()
    return True, f"native, with {names[0]} (here also {', '.join(names[1:])}), compiled in {ready()}"
