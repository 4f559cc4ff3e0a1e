"""The house rules that no linter knows: floors, packaging, sizes, what may never appear in the tree."""

import ast
import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

import pilothouse.agents
import pilothouse.store

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("agents", "specialists", "router", "store", "kernels", "bench")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]

# What a floor may import, itself included. bench measures every floor; only its own command reaches it.
BELOW = {
    "agents": {"agents", "specialists", "router", "store", "kernels"},
    "specialists": {"specialists", "router", "store", "kernels"},
    "router": {"router", "store", "kernels"},
    "store": {"store"},
    "kernels": {"kernels"},
    "bench": set(FLOORS),
}
EXCEPTIONS = {("agents/cli/bench.py", "bench")}
NO_TORCH = {"torch", "transformers", "peft", "langgraph", "numpy"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
OTHER_WEIGHTS = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".npy", ".h5", ".gguf", ".onnx"}

FILE_LINES, FUNCTION_LINES, LONG_FUNCTION, LONG_SHARE, MEDIAN_LINES = 400, 80, 40, 0.03, 10
WEIGHTS_BYTES = 40 * 10**6


# -- the tree ----------------------------------------------------------------------------------------------


def tracked(*folders: str) -> Iterator[Path]:
    """Files under `folders`, without what Python and the tools leave behind."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in parts):
                yield path


def sources() -> list[Path]:
    return [path for path in tracked(*FLOORS) if path.suffix == ".py"]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def none_of(faults: list[str]) -> None:
    """Fail with one fault a line."""
    assert not faults, "\n" + "\n".join(faults)


# -- packaging ---------------------------------------------------------------------------------------------


def dotted(folder: Path) -> str:
    return ".".join(("pilothouse", *folder.relative_to(ROOT).parts))


def test_every_package_is_listed() -> None:
    folders = {path.parent for path in sources()} | {ROOT / floor for floor in FLOORS}
    assert sorted(SETUPTOOLS["packages"]) == sorted(map(dotted, folders))


def test_every_floor_is_mapped_and_linked() -> None:
    links = {link.name: Path(os.readlink(link)) for link in (ROOT / ".typing/pilothouse").iterdir()}
    assert links == {floor: Path("../..") / floor for floor in FLOORS}
    assert SETUPTOOLS["package-dir"] == {f"pilothouse.{floor}": floor for floor in FLOORS}


def test_only_kernels_is_without_init() -> None:
    """A root `kernels/__init__.py` would hide the Hub's `kernels` from transformers."""
    assert not (ROOT / "kernels/__init__.py").exists()
    folders = {path.parent for path in sources()} - {ROOT / "kernels"}
    none_of([f"{folder} has no __init__.py" for folder in folders if not (folder / "__init__.py").exists()])


def test_every_floor_is_typed() -> None:
    none_of([f"{floor}/py.typed is missing" for floor in FLOORS if not (ROOT / floor / "py.typed").exists()])


def shipped(path: Path) -> bool:
    """Whether a pattern of package-data reaches a data file. setuptools matches below the nearest package."""
    data = SETUPTOOLS["package-data"]
    package = next(folder for folder in path.parents if dotted(folder) in SETUPTOOLS["packages"])
    below = path.relative_to(package).as_posix()
    patterns = [p for p in data["*"] if "/" not in below] + data.get(dotted(package), [])
    return any(fnmatch.fnmatch(below, pattern.replace("**/", "")) for pattern in patterns)


def test_every_data_file_is_in_the_wheel() -> None:
    files = [path for path in tracked(*FLOORS) if path.suffix != ".py"]
    none_of([f"{at(path, 1)}: no package-data pattern matches" for path in files if not shipped(path)])


def test_code_under_test_is_this_checkout() -> None:
    for module in (pilothouse.agents, pilothouse.store):
        assert Path(str(module.__file__)).resolve().is_relative_to(ROOT)


def test_no_test_package_and_no_root_module() -> None:
    """Either puts the root on sys.path, where `agents` and `kernels` shadow other people's packages."""
    assert not list(ROOT.glob("tests/**/__init__.py"))
    assert not list(ROOT.glob("*.py"))


# -- floors ------------------------------------------------------------------------------------------------


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import in `path`, relative ones resolved."""
    package = dotted(path.parent).split(".")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join(base + (node.module or "").split(".")).strip(".")
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def upward(path: Path) -> Iterator[str]:
    here = path.relative_to(ROOT)
    for line, name in imports(path):
        first, *rest = name.split(".")
        floor = rest[0] if first == "pilothouse" and rest else None
        if floor and floor not in BELOW[here.parts[0]] and (here.as_posix(), floor) not in EXCEPTIONS:
            yield f"{at(path, line)}: {here.parts[0]} may not import {floor}"


def test_no_import_goes_up() -> None:
    none_of([fault for path in sources() for fault in upward(path)])


def absolute(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.split(".")[0] in {"pilothouse", *FLOORS} for name in names):
            yield f"{at(path, node.lineno)}: import your own project relatively"


def test_own_imports_are_relative() -> None:
    """An absolute one gives a class two identities for type checkers."""
    none_of([fault for path in sources() for fault in absolute(path)])


def test_store_names_no_heavy_import() -> None:
    faults = [
        f"{at(path, line)}: store may not import {name}"
        for path in tracked("store")
        if path.suffix == ".py"
        for line, name in imports(path)
        if name.split(".")[0] in NO_TORCH
    ]
    none_of(faults)


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    command = [sys.executable, "-P", "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".typing")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_store_loads_no_torch() -> None:
    modules = [dotted(path.with_suffix("")) for path in tracked("store") if path.suffix == ".py"]
    names = [name.removesuffix(".__init__") for name in modules if ".migrations" not in name]
    heavy = loaded_by("\n".join(f"import {name}" for name in names)) & NO_TORCH
    assert not heavy


# -- sizes -------------------------------------------------------------------------------------------------


class Function(NamedTuple):
    """One function of the product; `lines` run from `def` to the last one, docstring included."""

    lines: int
    place: str
    name: str

    def __str__(self) -> str:
        return f"{self.place}: {self.name} has {self.lines} lines"


def functions() -> list[Function]:
    return [
        Function((node.end_lineno or node.lineno) - node.lineno + 1, at(path, node.lineno), node.name)
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_no_file_is_long() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    none_of(
        [f"{at(path, size)}: over {FILE_LINES} lines" for path, size in sizes.items() if size > FILE_LINES]
    )


def test_no_function_is_long() -> None:
    none_of([f"{one}, over {FUNCTION_LINES}" for one in functions() if one.lines > FUNCTION_LINES])


def test_few_functions_are_longish() -> None:
    every = functions()
    longish = [str(one) for one in every if one.lines > LONG_FUNCTION]
    assert len(longish) <= LONG_SHARE * len(every), "\n" + "\n".join(longish)


def test_functions_are_short_in_the_middle() -> None:
    assert median(one.lines for one in functions()) < MEDIAN_LINES


# -- what may never appear ---------------------------------------------------------------------------------


MACHINE_PATH = re.compile(r"(?<![\w.~}/-])/(?:work|tmp|root|home|Users|opt|mnt)/")
PROSE = {".py", ".md", ".toml", ".ini", ".sql", ".mako", ".json"}


def written() -> Iterator[Path]:
    """Every text a person or a recipe wrote; a tokenizer's vocabulary is neither."""
    yield from (
        path for path in tracked(*FLOORS, "docs") if path.suffix in PROSE and path.name != "tokenizer.json"
    )
    yield from (path for path in ROOT.iterdir() if path.suffix in PROSE or path.name == "Makefile")
    yield ROOT / ".ci/run"


def test_no_machine_path() -> None:
    faults = [
        f"{at(path, number)}: names a path of one machine"
        for path in written()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    none_of(faults)


def keyword(call: ast.Call, name: str) -> object:
    """Literal value of a keyword of `call`; None where it is absent or computed."""
    values = [k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)]
    return values[0] if values else None


def unsafe_call(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    if name == "torch.load" and keyword(call, "weights_only") is not True:
        return "torch.load without weights_only=True runs code from the file"
    if keyword(call, "trust_remote_code") is True:
        return "trust_remote_code=True runs code from a model folder"
    if keyword(call, "allow_pickle") is True:
        return "allow_pickle=True runs code from the file"
    return "eval and exec run text as code" if name in {"eval", "exec"} else None


def unsafe(path: Path) -> Iterator[str]:
    for line, name in imports(path):
        if name.split(".")[0] in PICKLES:
            yield f"{at(path, line)}: {name.split('.')[0]} is no format of ours"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and (fault := unsafe_call(node)):
            yield f"{at(path, node.lineno)}: {fault}"


def test_nothing_runs_code_from_data() -> None:
    none_of([fault for path in sources() for fault in unsafe(path)])


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        ("torch.load(f)", True),
        ("torch.load(f, weights_only=True)", False),
        ("AutoModel.from_pretrained(p, trust_remote_code=True)", True),
        ("AutoModel.from_pretrained(p, trust_remote_code=False)", False),
        ("numpy.load(f, allow_pickle=True)", True),
        ("eval(text)", True),
        ("model.eval()", False),
    ],
)
def test_the_guard_itself(code: str, caught: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert bool(unsafe_call(call)) is caught


def test_weights_are_safetensors_and_small() -> None:
    files = list(tracked(*FLOORS, "docs", "tests"))
    none_of(
        [f"{at(path, 1)}: weights are safetensors only" for path in files if path.suffix in OTHER_WEIGHTS]
    )
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") <= WEIGHTS_BYTES
