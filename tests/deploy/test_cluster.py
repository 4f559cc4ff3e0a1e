"""Two nodes, one killed under load: every answer that a client got has its row, and the service recovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import make_url

RUN = Path(__file__).with_name("cluster_run.py")
CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is in the extra ray")
def test_a_node_dies_and_nothing_acknowledged_is_lost(
    postgres_place: Callable[[], str], tmp_path: Path
) -> None:
    private = postgres_place()
    url = make_url(private)
    passes = tmp_path / "pgpass"
    passes.write_text(f"{url.host}:{url.port}:*:{url.username}:{url.password}\n")
    passes.chmod(0o600)
    shared = private.replace(f":{url.password}@", "@")
    environment = {
        **os.environ,
        "PYTHONPATH": str(CHECKOUT / ".typing"),
        "PYTHONSAFEPATH": "1",
        "PGPASSFILE": str(passes),
        "PILOTHOUSE_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",  # else the second node has nothing to lose
        # a busy machine starts processes slowly; that is no fault
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        "RAY_worker_register_timeout_seconds": "240",
        "RAY_worker_niceness": "0",
        "RAY_health_check_period_ms": "1000",
    }
    command = [sys.executable, str(RUN), "starter", shared, private]
    with (tmp_path / "told").open("wb") as errors:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, text=True
        )
        try:
            out, _ = process.communicate(timeout=800)
        finally:
            if process.poll() is None:  # its whole session: Ray's own processes with it
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert process.returncode == 0, (tmp_path / "told").read_text()[-4000:]
    told = json.loads(out.splitlines()[-1])
    print(told)
    both = {"Controllers": 2, "Engines": 2}
    assert told["before"] == both, told
    assert told["before the kill by"] == 2, told
    assert all(told[step] for step in ("asked", "goes on", "noticed", "recovered", "asked again")), told
    assert told["replies"]["200"] >= 24, told
    assert (told["lost"], told["open"], told["chain"]) == (0, 0, "ok"), told
