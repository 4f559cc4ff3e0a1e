"""Find, compile if need be, and load the native library; its structures and functions as ctypes has them."""

from __future__ import annotations

import ctypes as C
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, Final

from ....store import paths
from ....store.errors import PilothouseError
from . import build

OK: Final = 0
OUT_OF_CONTEXT, OUT_OF_CACHE, NOT_FINITE = 2, 3, 4
F32, BF16, F16, BYTE = 0, 1, 16, 9
MAP_Q, MAP_K, MAP_V, MAP_O, MAP_GATE, MAP_UP, MAP_DOWN, EMBED, HEAD = range(9)
NORM_INPUT, NORM_POST, NORM_Q, NORM_K, NORM_FINAL = range(5)

_lock = threading.Lock()


class NativeUnavailable(PilothouseError):
    """The native engine cannot be used here; says why."""


def _structure(name: str, **fields: Any) -> Any:
    return type(name, (C.Structure,), {"_fields_": list(fields.items())})


_I, _F, _P = C.c_int32, C.c_float, C.c_void_p
Shape = _structure(
    "Shape", vocabulary=_I, width=_I, inner=_I, layers=_I, heads=_I, groups=_I, head_size=_I, context=_I,
    rows=_I, parts=_I, epsilon=_F, cache_bytes=C.c_int64,
)  # fmt: skip
Matrix = _structure("Matrix", kind=_I, rows=_I, columns=_I, group=_I, data=_P, scales=_P, bias=_P)
Entry = _structure(
    "Entry", kind=_I, layer=_I, in_prompt=_I, in_generation=_I, gate_layer=_I, relative=_I,
    keep_norm=_I, coefficient=_F, reader_bias=_F, reader_threshold=_F,
    gate_bias=_F, gate_threshold=_F, vector=_P, reader=_P, gate=_P,
)  # fmt: skip
HeadEntry = _structure("HeadEntry", layer=_I, bias=_F, weight=_P)

FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "ph_error": (C.c_char_p, []),
    "ph_kernels": (C.c_char_p, []),
    "ph_context_new": (_P, [_I, C.c_char_p]),
    "ph_context_kernels": (C.c_char_p, [_P]),
    "ph_context_free": (None, [_P]),
    "ph_read": (C.c_int, [_P, C.c_int64, _I, _P]),
    "ph_model_new": (_P, [_P, _P, _P]),
    "ph_model_matrix": (C.c_int, [_P, _I, _I, _P]),
    "ph_model_vector": (C.c_int, [_P, _I, _I, _P, _I]),
    "ph_model_ready": (C.c_int, [_P]),
    "ph_model_row": (C.c_int, [_P, _I, _I, _I, _P]),
    "ph_model_bytes": (C.c_int64, [_P]),
    "ph_model_free": (None, [_P]),
    "ph_sequence_new": (C.c_int, [_P, _P]),
    "ph_sequence_fork": (C.c_int, [_P, _I, _I, _P]),
    "ph_sequence_free": (C.c_int, [_P, _I]),
    "ph_cache_bytes": (C.c_int64, [_P]),
    "ph_adapter_new": (C.c_int, [_P, _I, _P]),
    "ph_adapter_product": (C.c_int, [_P, _I, _I, _I, _I, _P, _I, _P, _I]),
    "ph_adapter_ready": (C.c_int, [_P, _I]),
    "ph_adapter_free": (C.c_int, [_P, _I]),
    "ph_plan_new": (C.c_int, [_P, _P, _I, _P, _I, _P]),
    "ph_plan_free": (C.c_int, [_P, _I]),
    "ph_step": (C.c_int, [_P, _P, _I]),
    "ph_steps": (C.c_int, [_P, _P, _P, _I, _P, _I]),
}


def places() -> list[Path]:
    """Return where the library may be: in the package (an install), in the checkout, in the user's cache."""
    name, here = build.library_name(), Path(__file__).resolve().parent
    found = [here / "lib" / name]
    root = here.parents[2]
    if (root / "pyproject.toml").is_file():
        found.append(root / ".cache" / "native" / name)
    return [*found, paths.cache_dir() / "native" / name]


def ready() -> Path | None:
    """Return the compiled library, if there is one."""
    return next((path for path in places() if path.is_file()), None)


@cache
def library() -> Any:
    """Return the loaded library; compile it first where nobody has.

    Raises:
        NativeUnavailable: there is none and none can be made.
    """
    with _lock:
        path = ready() or _compiled()
    try:
        loaded = C.CDLL(str(path))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise NativeUnavailable(f"{path} cannot be loaded ({error}): remove it") from error
    return loaded


def _compiled() -> Path:
    faults = []
    for path in places()[1:]:
        print(
            f"Compiling the native engine into {path.parent} (once; some seconds).",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        try:
            build.compile_library(path)
        except build.BuildError as error:
            faults.append(str(error))
        else:
            return path
    raise NativeUnavailable(f"the native engine is not compiled: {faults[0]}")


def give_back() -> None:
    """Let the C library give freed memory back to the system, where it has a word for that (glibc): of a
    model's stored weights it would keep what lies between smaller things.
    """
    trim = getattr(C.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def kernels() -> tuple[str, ...]:
    """Return the instruction sets that can be used here, best first."""
    return tuple(library().ph_kernels().decode().split())


def check(code: int) -> None:
    """Turn a code of the library into an error.

    Raises:
        MemoryError: the cache has no room.
        ValueError: the arguments make no sense.
    """
    if code == OK:
        return
    text = library().ph_error().decode()
    raise MemoryError(text) if code == OUT_OF_CACHE else ValueError(text)
