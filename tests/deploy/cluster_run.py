"""A Ray cluster of two nodes on this machine, the application on it, and one node killed under load.

A process of its own: Ray changes the one that it is started in. Prints one JSON object.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster
from sqlalchemy import select

from pilothouse.agents.deploy.app import CONTROLLERS, ENGINES, application
from pilothouse.bench.service.breaking import asking, counted, until
from pilothouse.bench.serving import free_port
from pilothouse.store.audit import Audit
from pilothouse.store.tables import events

# a node has room for one controller and one engine, no more
NODE: dict[str, Any] = {"num_cpus": 3, "object_store_memory": 80 << 20}
SECONDS = 400.0


def replicas() -> dict[str, int]:
    """How many replicas of each deployment run."""
    found = serve.status().applications["pilothouse"].deployments
    return {name: found[name].replica_states.get("RUNNING", 0) for name in (CONTROLLERS, ENGINES)}


def wait(met: Callable[[], bool]) -> bool:
    end = time.monotonic() + SECONDS
    while not met():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def power_off(cluster: Cluster, node: Any) -> None:
    """End every process of a node at once: its raylet, and the workers that the raylet started."""
    raylet = node.all_processes["raylet"][0].process.pid
    workers = [int(path.name) for path in Path("/proc").glob("[0-9]*") if parent(path) == raylet]
    assert len(workers) >= 2, workers
    for pid in (*workers, raylet):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def controllers(log: str, records: list[str]) -> int:
    """How many processes opened these records."""
    query = select(events.c.payload).where(events.c.kind == "opened", events.c.record_id.in_(records))
    with Audit.open(log) as audit, audit.reading() as connection:
        return len({json.loads(payload)["process"]["pid"] for payload in connection.scalars(query)})


def main(family: str, shared: str, private: str) -> None:
    """Run it: `shared` is the log's URL without its password, `private` the one with it."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    second = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    port, told = free_port(), dict[str, Any]()
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        given = {"family": family, "log": shared, "controller_cpus": 2, "engine_cpus": 1, "open": True}
        given |= {"requests_per_minute": 0, "cores": 1, "patience": SECONDS}
        serve.run(application(given), name="pilothouse", route_prefix="/")
        told["before"] = replicas()
        with asking(port, 0) as replies:
            told["asked"] = until(replies, 200, 24, SECONDS)
            asked = [reply.record_id for reply in replies]
            power_off(cluster, second)
            told["goes on"] = until(replies, 200, 12, SECONDS)
            told["noticed"] = wait(lambda: replicas() != told["before"])
            cluster.add_node(**NODE)
            told["recovered"] = wait(lambda: replicas() == told["before"])
            told["asked again"] = until(replies, 200, 6, SECONDS)
        serve.shutdown()
    finally:
        ray.shutdown()
        cluster.shutdown()
    broken = counted(replies, private, 1)
    told["before the kill by"] = controllers(private, asked)
    told |= {"replies": dict(broken.replies), "lost": broken.lost, "open": broken.open, "chain": broken.chain}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
