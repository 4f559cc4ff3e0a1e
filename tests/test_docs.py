"""What the documentation names is there: links, commands, options, imports, files, keys, codes, steps."""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pilothouse.agents.cli import main as cli
from pilothouse.agents.settings import Settings as Configuration
from pilothouse.router import policy
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists import card, family
from pilothouse.specialists.starter import pack, recipe
from pilothouse.store import errors, tables
from pilothouse.store.database import VERSION_TABLE

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md"))]
WRITTEN_BY = {"docs/reference/cli.md": "make docs", "docs/results/starter.md": "make bench-starter"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def names(pages: list[Path]) -> list[str]:
    return [page.relative_to(ROOT).as_posix() for page in pages]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def code_in(text: str) -> Iterator[str]:
    """Every line of code of a page: fenced, indented, and between backticks."""
    for _, block in FENCE.findall(text):
        yield from block.splitlines()
    prose = FENCE.sub("", text)
    yield from (line.strip() for line in prose.splitlines() if line.startswith("    "))
    yield from (span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", prose))


# -- links -------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_every_link_resolves(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        here = target.relative_to(ROOT).as_posix()
        assert target.exists(), f"{link} leads nowhere{f'; run `{WRITTEN_BY[here]}`' * (here in WRITTEN_BY)}"
        assert not anchor or anchor in anchors(target), f"{here} has no heading {anchor!r}"


def test_the_map_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)\s]+\.md)\)", page("index.md")))
    assert {path.name for path in DOCS.glob("*.md")} - {"index.md"} <= linked


# -- commands ----------------------------------------------------------------------------------------------


def commands_in(text: str) -> Iterator[list[str]]:
    """The words after `pilothouse`, of every command line in the page's code."""
    for line in code_in(text):
        for found in re.finditer(r"(?:^|[\s/|;])pilothouse +([a-z-][^|;#]*)", line):
            yield shlex.split(found[1].replace("…", ""), posix=True)


def command_of(words: list[str]) -> Any:
    """The command that these words run. AssertionError where there is none."""
    assert words[0] in cli.COMMANDS, f"pilothouse has no command {words[0]!r}"
    command = cli.load(words[0])
    if hasattr(command, "list_commands") and len(words) > 1 and re.fullmatch(r"[a-z-]+", words[1]):
        found = command.get_command(None, words[1]) if words[0] != "bench" else None
        known = command.list_commands(None)
        assert words[1] in known, f"pilothouse {words[0]} has no command {words[1]!r}; it has {known}"
        return found
    return command


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_every_command_exists(path: Path) -> None:
    for words in commands_in(path.read_text(encoding="utf-8")):
        if words[0].startswith("-"):
            assert words[0] in ("--help", "--version"), words
            continue
        command = command_of(words)
        known = {name for one in getattr(command, "params", ()) for name in one.opts} | {"--help"}
        for word in words if command is not None else ():
            if word.startswith("--"):
                assert word in known, f"pilothouse {' '.join(words)}: there is no option {word}"


def test_commands_are_found() -> None:
    text = "`pilothouse why last`\n\n```\n.venv/bin/pilothouse log list --json | head  # all\n```\n"
    assert list(commands_in(text)) == [["log", "list", "--json"], ["why", "last"]]
    with pytest.raises(AssertionError, match="no command 'rewind'"):
        command_of(["log", "rewind"])


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_every_make_target_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in code_in(path.read_text(encoding="utf-8")):
        for target in re.findall(r"(?:^|[\s|])make +([a-z-]+)", line):
            assert target in targets, f"there is no target `make {target}`"


# -- Python and files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_every_import_works(path: Path) -> None:
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pilothouse"):
                module = import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_every_file_that_is_named_exists(path: Path) -> None:
    floors = ("agents", "specialists", "router", "store", "kernels", "bench", "tests")
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for name in re.findall(rf"`((?:{'|'.join(floors)})/[\w./-]+)`", text):
        assert (ROOT / name).exists(), f"there is no {name}"


# -- tables of keys ----------------------------------------------------------------------------------------


def first_column(text: str, head: str) -> list[str]:
    """The cells below `head` in the table whose first column it heads."""
    found = re.search(rf"^\| {re.escape(head)} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"there is no table with the head {head!r}"
    return [row.split("|")[1].strip() for row in found[1].splitlines()]


def keys(text: str, head: str) -> list[str]:
    return [name for cell in first_column(text, head) for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(
    ("name", "head", "model"),
    [
        ("routing.md", "`policy.json` key", policy.Policy),
        ("routing.md", "`steering[]` key", policy.SteeringRule),
        ("routing.md", "`overrides[]` key", policy.Override),
        ("routing.md", "`ood` key", policy.OutOfDistribution),
        ("families.md", "`family.toml` key", family.Settings),
        ("families.md", "`data[]` key", card.Source),
        ("families.md", "`card.toml` key", card.Card),
        ("families.md", "`[remote]` key", card.Remote),
        ("configuration.md", "setting", Configuration),
    ],
)
def test_every_key_is_documented(name: str, head: str, model: type[BaseModel]) -> None:
    assert sorted(keys(page(name), head)) == sorted(model.model_fields)


def test_documented_defaults_are_the_defaults() -> None:
    text = page("configuration.md")
    for key, field in Configuration.model_fields.items():
        row = re.search(rf"^\| `{key}` \| ([^|]+) \|", text, re.MULTILINE)
        assert row, key
        shown = {None: "none", True: "true", False: "false"}.get(field.default, field.default)
        shown = f'"{shown}"' if isinstance(field.default, str) else shown
        stated = row[1].strip()
        assert stated == str(shown) or float(stated) == field.default, key


def test_the_keys_of_a_vector_are_documented() -> None:
    import torch

    head = SteeringVector("v", "add", 0, 1.0, "both", torch.ones(2)).head()
    assert sorted(keys(page("steering.md"), "`vector.json` key")) == sorted(head)


def test_every_table_of_the_log_is_documented() -> None:
    made = {*tables.metadata.tables, VERSION_TABLE, "content_words"}
    assert set(keys(page("log.md"), "table")) == made
    check = next(c for c in tables.events.constraints if str(c.name).endswith("kind"))
    kinds = re.findall(r"'(\w+)'", str(check.sqltext))  # type: ignore[attr-defined]
    assert keys(page("log.md"), "kind of event") == kinds


def test_the_exit_codes_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page("configuration.md"), re.MULTILINE)
    stated = re.findall(r"^\| (\d+) \| (.+) \|$", errors.__doc__ or "", re.MULTILINE)
    assert [code for code, _ in rows] == [code for code, _ in stated]


# -- the starter -------------------------------------------------------------------------------------------


def test_the_recipe_is_told_step_by_step() -> None:
    made = [step.name for step in recipe.steps(Path("nowhere"))]
    courses, rides = ([n for n in made if n.startswith(word)] for word in ("adapter-", "ride-"))
    short = [name for name in made if name not in (*courses[1:-1], *rides[1:-1])]
    assert keys(page("starter.md"), "step") == short


def test_every_source_is_listed_with_its_licence() -> None:
    import tomllib

    cards = tomllib.loads(pack.CARDS.read_text(encoding="utf-8"))
    said = [card.Source.model_validate(row) for one in cards.values() for row in one.get("data", [])]
    table = page("starter.md").lower()
    for source in [*pack.TRUNK_DATA, *said]:
        for name in re.split(r", (?!CC)", source.name):
            bare = name.removesuffix(" (carrier text)").lower()
            row = re.search(rf"^\|[^|]*{re.escape(bare)}[^|]*\|([^|]+)\|", table, re.MULTILINE)
            assert row, f"{name} is not in docs/starter.md"
            assert row[1].strip() == source.licence.lower(), name
