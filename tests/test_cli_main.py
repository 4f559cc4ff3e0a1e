"""The command table: fast to start, complete, and in step with its page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse.agents.cli import main as cli
from pilothouse.bench.cli_reference import reference
from pilothouse.store import errors

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = "from pilothouse.agents.cli.main import main; main()"
HEAVY = ("torch", "transformers", "langgraph", "peft")


def run(*arguments: str, launch: str = LAUNCH) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".typing"), "COLUMNS": "200", "NO_COLOR": "1"}
    command = [sys.executable, "-P", "-c", launch, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name, entry in cli.COMMANDS.items():
        assert re.search(rf"\b{name}\s+{re.escape(entry.help)}", done.stdout), name


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["log", "--help"]])
def test_no_command_pays_for_its_neighbours(arguments: list[str]) -> None:
    report = f"lambda: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = run(*arguments, launch=f"import atexit, sys; atexit.register({report}); {LAUNCH}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_loads_and_helps(name: str) -> None:
    command = cli.load(name)
    assert command.name == name
    assert command.help, f"{name} has no help text"


def test_a_wrong_command_names_the_near_one() -> None:
    done = run("famly")
    assert done.returncode == 2
    assert "family" in done.stderr


def test_version_names_the_interpreter_and_torch() -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch(
        rf"pilothouse .+ \(Python {re.escape(python)}, torch \d.+\)\n", run("--version").stdout
    )


def test_a_named_fault_is_one_escaped_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise errors.NotFoundError("no specialist '\x1b[2J'; try `pilothouse family show`")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == errors.NotFoundError.exit_code
    assert capsys.readouterr().err == "pilothouse: no specialist '\\x1b[2J'; try `pilothouse family show`\n"


def test_help_names_every_exit_code() -> None:
    def below(kind: type[errors.PilothouseError]) -> set[int]:
        return {kind.exit_code}.union(*(below(child) for child in kind.__subclasses__()))

    stated = {int(code) for code in re.findall(r"\b\d+\b", cli.EXIT_CODES)}
    assert stated == below(errors.PilothouseError) | {0}


def test_the_page_is_in_step() -> None:
    page = reference()
    assert (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8") == page, "run `make docs`"
    assert all(f"\n### pilothouse {name}\n" in page for name in cli.COMMANDS)
