"""Which process opened a record, and whether it still runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from .records import Frozen


class Process(Frozen):
    """A process: `started` (clock ticks after boot, from /proc) tells it from a later one with the same
    number.
    """

    host: str
    pid: int
    started: int | None = None


def this_process() -> Process:
    """The process that asks."""
    return Process(host=socket.gethostname(), pid=os.getpid(), started=_started(os.getpid()))


def is_gone(process: Process) -> bool:
    """Whether the process has surely ended. One on another host counts as running: we cannot know."""
    if process.host != socket.gethostname():
        return False
    if Path("/proc/self/stat").exists():
        started = _started(process.pid)
        return started is None or (process.started is not None and started != process.started)
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _started(pid: int) -> int | None:
    """Start time of a running process (field 22 of /proc/PID/stat); None for one that ended, zombies
    included.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before the bracket may hold spaces
    return None if fields[0] in "ZX" else int(fields[19])
