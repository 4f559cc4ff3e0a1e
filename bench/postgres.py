"""A PostgreSQL server of one's own, where its programs are installed (Debian: postgresql)."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

SETTINGS = {"shared_buffers": "16MB", "max_connections": "60", "log_min_messages": "fatal"}
PATIENCE = 120


class Postgres:
    """A server on the loopback, with a password; `url` is that of its database."""

    def __init__(self, programs: Path, folder: Path, port: int, fsync: bool) -> None:
        self._programs, self._folder, self._owner = programs, folder, _owner()
        password = secrets.token_hex(8)
        (folder / "password").write_text(password)
        if self._owner is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, self._owner)
        self.url = f"postgresql://pilot:{password}@127.0.0.1:{port}/postgres"
        listen = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder}
        every = SETTINGS | listen | {"fsync": "on" if fsync else "off"}
        self._options = " ".join(f"-c {key}={value}" for key, value in every.items())
        pwfile = f"--pwfile={folder / 'password'}"
        self._run("initdb", "--auth=scram-sha-256", "--username=pilot", pwfile, "-E", "UTF8")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "--wait", "--silent", "-l", log, "-o", self._options)

    def kill(self) -> None:
        """End it as a power cut would: no shutdown, no flush."""
        self._run("pg_ctl", "stop", "--mode=immediate")

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / name, "-D", self._folder / "data", *arguments],
            user=self._owner,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )


def programs() -> Path | None:
    """The folder of the server's programs, which Debian keeps off the PATH; None without them, or without
    psycopg.
    """
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    usable = next((place for place in places if (place / "pg_ctl").exists()), None)
    return usable if find_spec("psycopg") is not None else None


def _owner() -> str | None:
    """Whom to run the server as: it refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def postgres(place: Path, port: int, fsync: bool = True) -> Iterator[Postgres]:
    """A running server with `programs()` at `place`; it and its data are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = Postgres(place, folder, port, fsync)
    try:
        server.start()
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)
