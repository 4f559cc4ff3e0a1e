"""What every test has: draws that any run repeats, and a PostgreSQL server where its programs are installed
(Debian: postgresql)."""

import contextlib
import os
import pwd
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch

if find_spec("hypothesis"):  # not in vLLM's environment
    import hypothesis

    # A failure is to be seen again by whoever runs the same tests: no fresh examples, no clock.
    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
    hypothesis.settings.load_profile("repeatable")

SETTINGS = {
    "fsync": "off",  # the tests kill clients, not the machine
    "shared_buffers": "16MB",
    "max_connections": "60",
    "log_min_messages": "fatal",
}


def _programs() -> Path | None:
    """The folder of the server's programs; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "pg_ctl").exists()), None)


def _owner() -> str | None:
    """Whom to run the server as: it refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture(autouse=True)
def _same_draws(request: pytest.FixtureRequest) -> None:
    """A test draws the same numbers alone, in any order, on any worker; its own seeds go before this one."""
    seed = zlib.crc32(request.node.nodeid.encode()) + int(os.environ.get("PILOTHOUSE_TEST_SEED", 0))
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a database of a fresh server on the loopback, with a password."""
    programs = _programs()
    if programs is None or find_spec("psycopg") is None:
        pytest.skip("PostgreSQL's programs or psycopg are not installed")
    folder, owner, password = Path(tempfile.mkdtemp(prefix="pg-")), _owner(), secrets.token_hex(8)
    (folder / "password").write_text(password)
    if owner is not None:
        for path in (folder, folder / "password"):
            shutil.chown(path, owner)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(name: str, *arguments: str) -> None:
        subprocess.run(
            [programs / name, "-D", folder / "data", *arguments],
            user=owner,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=120,
        )

    try:
        run(
            "initdb",
            "--auth=scram-sha-256",
            "--username=pilot",
            f"--pwfile={folder / 'password'}",
            "-E",
            "UTF8",
        )
        listen = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder}
        options = " ".join(f"-c {key}={value}" for key, value in (SETTINGS | listen).items())
        run("pg_ctl", "start", "--wait", "--silent", "-l", str(folder / "log"), "-o", options)
        yield f"postgresql://pilot:{password}@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("pg_ctl", "stop", "--mode=immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_place(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Make the URL of an empty place of its own on the server, as often as asked; dropped after the test."""
    import psycopg

    made: list[str] = []

    def place() -> str:
        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        made.append(name)
        return f"{postgres_server}?options={quote(f'-csearch_path={name}')}"

    yield place
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP SCHEMA {name} CASCADE")
