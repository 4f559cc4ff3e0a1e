"""Choose the engine for a family: the native one on a CPU where it can, else the torch one.

What a user named works or fails loudly; what is chosen here falls back, and `why_not_native` says why.
"""

from __future__ import annotations

from typing import Any

from ...store.errors import PilothouseError
from ..family import Family
from ..leanconfig import LeanConfig, NotLean
from ..weights import read_json
from .base import ENGINES, BatchEngine, NotOffered


def open_engine(
    family: Family, name: str = "auto", device: str = "auto", threads: int | None = None, **options: Any
) -> BatchEngine:
    """Open a family with the engine `name`; `options` go to that engine (`capacity`, `verify`, ...).

    The engines are the entries of `pilothouse.engines`: each is called with the family, the device, the
    number of threads and the options.

    Raises:
        UsageError: there is no such engine, or the native one is named with a device that is no CPU.
        NotOffered: the native or the vllm engine is named and cannot run this family here.
        PluginError: the engine of an installed package cannot be loaded or opened.
        PilothouseError: as the engine itself raises.
    """
    opened: BatchEngine = ENGINES.make(name, family, device, threads, **options)
    return opened


def open_auto(family: Family, device: str, threads: int | None, **options: Any) -> BatchEngine:
    """The native engine where it can run the family, else the torch one."""
    chosen = _native if why_not_native(family, device) is None else open_torch
    return chosen(family, device, threads, **options)


def open_native(family: Family, device: str, threads: int | None, **options: Any) -> BatchEngine:
    """The native engine. Raises NotOffered where it cannot run the family."""
    reason = why_not_native(family, device)
    if reason is not None:
        raise NotOffered(f"the native engine cannot be used: {reason}")
    return _native(family, device, threads, **options)


def open_torch(family: Family, device: str, threads: int | None, **options: Any) -> BatchEngine:
    """The torch engine."""
    from .torch import TorchEngine

    return TorchEngine(family, device, threads, **options)


def open_vllm(family: Family, device: str, threads: int | None, **options: Any) -> BatchEngine:
    """The vllm engine, which finds its device itself. Raises NotOffered where vLLM cannot be used."""
    from .vllm.engine import VllmEngine

    return VllmEngine(family, threads, **options)


def _native(family: Family, device: str, threads: int | None, **options: Any) -> BatchEngine:
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
