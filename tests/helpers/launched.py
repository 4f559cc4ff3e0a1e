"""Processes that were started together, as `accelerate launch` starts them; a fork server spares imports."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from pilothouse.specialists.improve.crew import Crew

Death = tuple[int, int]  # process, step


# what `accelerate launch --use_fsdp --fsdp_version 2` sets
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}


def build_together(
    argv: Sequence[str],
    size: int,
    folder: Path,
    env: Mapping[str, str] | None = None,
    death: Death | None = None,
) -> list[int]:
    """Run `pilothouse build ARGV` in ``size`` processes and return their exit codes; what they say is in
    ``folder``, one file each. ``death`` kills one of them before a step.
    """
    folder.mkdir(exist_ok=True)
    return together(_build, (argv, folder, death), size, env)


def together(
    target: Callable[..., None], args: Sequence[object], size: int, env: Mapping[str, str] | None = None
) -> list[int]:
    """Call ``target(env, *args)`` in ``size`` processes, each with its own environment; return exit codes."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "peft", "accelerate"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **(env or {}),
    }
    crew = []
    for rank in range(size):
        own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        crew.append(context.Process(target=target, args=(own, *args)))
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    return [process.exitcode if process.exitcode is not None else -1 for process in crew]


def _build(env: Mapping[str, str], argv: Sequence[str], folder: Path, death: Death | None) -> None:
    os.environ.update(env)
    from pilothouse.agents.cli.main import main
    from pilothouse.specialists.improve import loop

    if death is not None and death[0] == int(env["RANK"]):
        real = loop.Learning.descend

        def descend(self: loop.Learning, loss: Tensor, step: int, team: Crew) -> float:
            if step == death[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, loss, step, team)

        loop.Learning.descend = descend  # type: ignore[method-assign]
    sys.argv = ["pilothouse", "build", *argv]
    with (folder / f"{env['RANK']}.txt").open("w") as file, redirect_stdout(file), redirect_stderr(file):
        sys.exit(main())  # type: ignore[func-returns-value]
