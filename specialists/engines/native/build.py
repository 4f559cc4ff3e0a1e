"""Compile the native engine with the system's C++ compiler: when installing, or on first use.

This file imports nothing of the project: the build hook loads it before there is anything to import.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "src"
COMPILERS = ("c++", "g++", "clang++")
# -O3, not -O2: the kernels' sums stay in registers only if all their short loops are unrolled.
FLAGS = ("-std=c++20", "-O3", "-fPIC", "-fno-math-errno", "-fvisibility=hidden", "-pthread")
# Per unit, so that one library holds code for processors that cannot all run it.
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma")
UNITS = {
    "kernels_avx2.cpp": ("-mavx2", "-mfma", "-mf16c"),
    "kernels_avx512.cpp": AVX512,
    "kernels_vnni.cpp": (*AVX512, "-mavx512vnni"),
    "kernels_amx.cpp": (*AVX512, "-mavx512vnni", "-mamx-tile", "-mamx-int8"),
}
X86 = ("x86_64", "amd64")


class BuildError(Exception):
    """The library could not be compiled; says why, in one line."""


def compiler() -> str | None:
    """Return the C++ compiler to use: `CXX`, else the first of c++, g++ and clang++ that is installed."""
    named = os.environ.get("CXX")
    return shutil.which(named) if named else next((c for c in map(shutil.which, COMPILERS) if c), None)


def library_name(more: bytes = b"") -> str:
    """Return the library's file name, which changes with its sources (and `more`), flags and kind of
    processor.
    """
    digest = hashlib.sha256(repr((FLAGS, UNITS, platform.system(), platform.machine())).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(more)
    return f"pilothouse_native-{digest.hexdigest()[:16]}.so"


def units(found: str, plain: bool = False) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Return what is compiled on this kind of processor, or on every (`plain`): each source with its own
    flags.
    """
    x86 = platform.machine().lower() in X86 and not plain
    # Tiles are asked for from Linux, and compilers older than these instructions are still in use.
    tiles = x86 and platform.system() == "Linux" and _knows(found, UNITS["kernels_amx.cpp"])
    have = ("-DPH_HAVE_X86",) * x86 + ("-DPH_HAVE_AMX",) * tiles
    for path in sorted(SOURCES.glob("*.cpp")):
        if tiles if path.name == "kernels_amx.cpp" else (x86 or path.name not in UNITS):
            yield path, (*have, *UNITS.get(path.name, ()))


def _knows(found: str, flags: Sequence[str]) -> bool:
    command = [found, *flags, "-E", "-x", "c++", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def compile_library(
    target: Path, extra: Sequence[str] = (), mains: Sequence[Path] = (), plain: bool = False
) -> None:
    """Compile all sources into `target`, which appears whole or not at all.

    With `mains` (C++ files that hold a `main`) a program is made instead; `extra` flags come last. `plain`
    leaves out what only some processors run.

    Raises:
        BuildError: there is no compiler, or it fails; or the folder cannot be written.
    """
    found = compiler()
    if found is None:
        raise BuildError("there is no C++ compiler (c++, g++ or clang++): install one")
    shared = () if mains else ("-shared",)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
            sources = [*units(found, plain), *((path, (f"-I{SOURCES}",)) for path in mains)]
            objects = [Path(scratch) / f"{path.stem}.o" for path, _ in sources]
            commands = [
                [found, *FLAGS, *flags, *extra, "-c", str(path), "-o", str(made)]
                for (path, flags), made in zip(sources, objects, strict=True)
            ]
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                list(pool.map(_run, commands))
            whole = Path(scratch) / target.name
            _run([found, *FLAGS, *shared, *extra, *map(str, objects), "-o", str(whole)])
            whole.replace(target)
    except OSError as error:
        raise BuildError(f"{target.parent} cannot be written ({error})") from error


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} failed: {lines[0] if lines else f'exit code {done.returncode}'}")
