"""Under which circumstances a result was made: command, seed, code, machine, versions."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from ..store.version import code_version

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "transformers", "langgraph", "tokenizers", "numpy", "scikit-learn")


def facts(command: str, seed: int) -> tuple[tuple[str, str], ...]:
    """Return the header of a results page."""
    return (
        ("command", f"`{command}`"),
        ("seed", str(seed)),
        ("commit", commit()),
        ("code", code_version()),
        ("hardware", f"{cpu()}, {cores()} cores"),
        ("date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("versions", f"Python {platform.python_version()}, {', '.join(map(_version, PACKAGES))}"),
    )


def commit() -> str:
    """The commit of this checkout, marked where files differ from it; the release where there is no git."""
    found = _git("rev-parse", "--short=12", "HEAD") if shutil.which("git") else None
    if not found:
        return f"no checkout, release {_version('pilothouse')}"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{found}, with changes since" if changed else found


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def cpu() -> str:
    """The processor's own name for itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def preloaded() -> str:
    """The libraries that this process was started with in place of the system's (`LD_PRELOAD`)."""
    names = [Path(one).name for one in os.environ.get("LD_PRELOAD", "").replace(" ", ":").split(":") if one]
    return ", ".join(names) or "nothing"


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"
