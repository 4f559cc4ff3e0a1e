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

from ..store.errors import PilothouseError

# the code under test is this checkout's, whatever is installed
SERVE = f"from {__package__.rpartition('.')[0]}.agents.cli.main import main; main()"


@contextmanager
def serving(home: Path, family: str) -> Iterator[int]:
    """A service in a process of its own, without a rate limit; gives its port once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    options = ["--port", str(port), "--requests-per-minute", "0", "--quiet", "--family", family]
    environment = {**os.environ, "PILOTHOUSE_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-P", "-c", SERVE, "serve", *options], env=environment)
    try:
        while not is_ready(port):
            if process.poll() is not None:
                raise PilothouseError(f"the service ended with {process.returncode} before it was ready")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(60)


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
