"""The command: what it needs, what it refuses, what it imports before it runs."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pilothouse.bench import circumstances, commands
from pilothouse.store.errors import UsageError


def test_every_command_has_a_benchmark() -> None:
    named = {str(c.callback.__name__) for c in commands.app.registered_commands if c.callback}
    assert named == set(commands.BENCHMARKS)
    for name, module in commands.BENCHMARKS.items():
        found = import_module(module)
        assert callable(getattr(found, "run", None) or getattr(found, name))


def test_help_loads_nothing_heavy() -> None:
    root = Path(commands.__file__).resolve().parents[1] / ".typing"
    code = f"import sys; sys.path.insert(0, {str(root)!r})\n"
    code += "import pilothouse.bench.commands; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "matplotlib", "numpy"} & set(done.stdout.split())


def test_a_data_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(commands.app, ["starter", "--data", str(tmp_path / "no")])
    assert isinstance(found.exception, UsageError)
    assert "does not exist" in str(found.exception)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "NEEDED", {"no_such_module_here": "no-such-package"})
    with pytest.raises(UsageError, match="no-such-package"):
        commands.require_packages()


def test_circumstances_name_seed_machine_and_code() -> None:
    facts = dict(circumstances.facts("pilothouse bench starter", 7))
    assert facts["seed"] == "7"
    assert "torch" in facts["versions"]
    assert facts["commit"]
    assert facts["hardware"].endswith("cores")


def test_without_git_the_release_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circumstances.shutil, "which", lambda _: None)
    assert circumstances.commit().startswith("no checkout, release")
