"""A service in a process of its own, as benchmarks need one."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ..store.errors import PilothouseError

# the code under test is this checkout's, whatever is installed
SERVE = f"from {__package__.rpartition('.')[0]}.agents.cli.main import main; main()"


class Running(NamedTuple):
    """A service's process and port."""

    process: subprocess.Popen[bytes]
    port: int


@contextmanager
def serving(home: Path, family: str) -> Iterator[int]:
    """A service in a process of its own, without a rate limit; gives its port once it is ready."""
    running = started(home, family)
    try:
        yield running.port
    finally:
        stopped(running)


def started(
    home: Path,
    family: str,
    *,
    before: str = "",
    log: str | None = None,
    port: int = 0,
    **options: int,
) -> Running:
    """Start a service and wait until it is ready.

    `before` is Python that runs in it first, `options` are those of `serve`.

    Raises PilothouseError when it ends first.
    """
    port = port or free_port()
    words = ["--port", str(port), "--requests-per-minute", "0", "--quiet", "--family", family]
    words += [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    environment = {**os.environ, "PILOTHOUSE_HOME": str(home)} | ({"PILOTHOUSE_LOG": log} if log else {})
    code = [sys.executable, "-P", "-c", before + SERVE]
    with (home / "service.log").open("ab") as told:  # what it says of every fault
        process = subprocess.Popen([*code, "serve", *words], env=environment, stderr=told)
    running = Running(process, port)
    try:
        wait_ready(running)
    except BaseException:
        stopped(running)
        raise
    return running


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_ready(running: Running, seconds: float = 300.0) -> None:
    """Wait until the model answers. Raises PilothouseError when the service ends first, or takes too long."""
    end = time.monotonic() + seconds
    while not is_ready(running.port):
        code = running.process.poll()
        if code is not None:
            raise PilothouseError(f"the service ended with {code} before it was ready")
        if time.monotonic() > end:
            raise PilothouseError(f"the service was not ready after {seconds:.0f} s")
        time.sleep(0.1)


def stopped(running: Running) -> None:
    """Tell a service to stop, and wait for it; one that does not stop is killed."""
    if running.process.poll() is None:
        running.process.terminate()
    try:
        running.process.wait(60)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()


def is_ready(port: int) -> bool:
    """Whether the model answers."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as line:
            line.request("GET", "/readyz")
            return line.getresponse().status == 200
    except OSError:
        return False


def document(port: int) -> dict[str, object]:
    """The OpenAPI document that the service gives out."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as line:
        line.request("GET", "/openapi.json")
        read: dict[str, object] = json.loads(line.getresponse().read())
        return read


def log_state(home: Path) -> tuple[int, str]:
    """Records in the log, and whether its chain holds."""
    from ..store.audit import Audit

    with Audit.open(home / "data" / "log.db") as audit:
        found = audit.verify()
    return found.records, "ok" if found.broken is None else found.broken.reason
