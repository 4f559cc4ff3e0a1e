"""Fingerprints follow every byte of a model folder; the router starts without transformers."""

import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse.router.fingerprint import fingerprint, require
from pilothouse.store.errors import ArtifactError

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_same_bytes_same_fingerprint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "README.md").write_text("no part of the model")
    assert fingerprint(folder) == fingerprint(other)
    require(fingerprint(folder), fingerprint(other))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{ }"),
        ("model.safetensors", b"weighty"),
        ("extra.safetensors", b""),
        ("model.safetensors", b"weights!"),
    ],
)
def test_any_byte_changes_it(folder: Path, name: str, content: bytes) -> None:
    before = fingerprint(folder)
    (folder / name).write_bytes(content)
    assert fingerprint(folder) != before


def test_incomplete_folders_are_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"config\.json"):
        fingerprint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"no \*\.safetensors"):
        fingerprint(folder)


def test_mismatch_says_what_to_do() -> None:
    with pytest.raises(
        ArtifactError, match=r"vector 'calm' was made for the model aaaaaaaaaaaa.*fit it again"
    ):
        require("a" * 64, "b" * 64, "vector 'calm'")


def loaded_by(*modules: str) -> set[str]:
    script = "\n".join(
        [*(f"import pilothouse.router.{name}" for name in modules), "import sys", "print(*sys.modules)"]
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={"PYTHONPATH": str(CHECKOUT / ".typing")},
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_router_loads_no_transformers() -> None:
    names = ["scout", "steer.runtime", "steer.make", "features.train", "features.label", "probes.fit"]
    heavy = loaded_by(*names) & {"transformers", "sklearn", "scipy", "peft", "langgraph"}
    assert not heavy


def test_policy_and_fingerprint_load_no_torch() -> None:
    assert "torch" not in loaded_by("policy", "threshold", "fingerprint")
