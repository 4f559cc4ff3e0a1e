"""`pilothouse locate`: a table, an artifact, a picture; plain refusals."""

import json
from pathlib import Path

import pytest
from toy_family import make_trunk
from typer.testing import CliRunner

from pilothouse.agents.cli.locate import app
from pilothouse.router.locate.finding import Finding
from pilothouse.router.locate.methods import METHODS
from pilothouse.store.errors import UsageError


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trunk")
    make_trunk(folder)
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "What is 3 + 4?"}\nSpell dog.\n')
    return path


def test_the_list_names_every_method() -> None:
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(METHODS)


def test_a_table_an_artifact_and_a_picture(trunk: Path, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["heads", "--model", str(trunk), "--prompts", str(prompts), "--top", "3", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("heads: mean log-probability increase")
    finding = Finding.load(out)
    assert len(finding.found) == 3
    assert all(one.name in done.stdout for one in finding.found)
    assert len(finding.fingerprint) == 64
    assert (out / "picture.html").read_text().count("<td style=") > 3


def test_json_png_and_the_chat_template(trunk: Path, prompts: Path, tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    arguments = ["lens", "--model", str(trunk), "--prompts", str(prompts), "--chat", "--json", "--quiet"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "o"), "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["method"] == "lens"
    assert told["facts"]["prompts"] == 2
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["magic", "--prompts", "x"], "no method 'magic'"),
        (["heads"], "--prompts FILE"),
        (["heads", "--prompts", "none.txt", "--family", "a", "--model", "b"], "give one"),
    ],
)
def test_wrong_use_is_refused(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
