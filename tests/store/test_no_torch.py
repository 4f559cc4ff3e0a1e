"""Reading the log must not cost what answering costs: no torch, and nothing else that is heavy."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pilothouse.store
from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Request

STORE = Path(next(iter(pilothouse.store.__path__)))
HEAVY = ("torch", "transformers", "numpy", "peft", "langgraph")
RUN = """
import json, sys
from pilothouse.agents.cli.main import app
try:
    app(sys.argv[1:], prog_name="pilothouse")
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} | set(sys.modules))))
"""


def _modules(environment: dict[str, str], *command: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_whole_store_imports_without_torch(environment: dict[str, str]) -> None:
    names = [f"pilothouse.store.{path.stem}" for path in STORE.glob("*.py") if path.stem != "__init__"]
    assert len(names) > 15
    program = f"import json, sys, {', '.join(names)}; print(json.dumps(list(sys.modules)))"
    loaded = _modules(environment, "-c", program)
    assert "pilothouse.store.ledger" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "verb",
    [["list"], ["show"], ["verify"], ["stats"], ["export"], ["diff", "last", "last"], ["list", "--json"]],
)
def test_reading_the_log_loads_nothing_heavy(
    log: Path, ask: Callable[..., Request], environment: dict[str, str], verb: list[str]
) -> None:
    with Ledger.open(log, code="test") as ledger:
        ledger.finish(ledger.begin(ask("hello")), "completed", answer="good day")
    loaded = _modules({**environment, "PILOTHOUSE_LOG": str(log)}, "-c", RUN, "log", *verb)
    assert "pilothouse.store.audit" in loaded
    assert loaded.isdisjoint({*HEAVY, "alembic", "sqlalchemy.orm", "rich.console"})
