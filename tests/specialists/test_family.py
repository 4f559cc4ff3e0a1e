"""Families open fast, refuse what was changed, and never read outside their folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists import integrity
from pilothouse.specialists.card import Card
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import FAMILY, Family, known_families
from pilothouse.specialists.integrity import IntegrityError
from pilothouse.store.errors import ArtifactError, NotFoundError


@pytest.fixture
def family(tiny_family: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(tiny_family, tmp_path / "tiny"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_whole_family_verifies_and_lists_its_artifacts(family: Path) -> None:
    opened = Family.open(family)
    opened.verify()
    assert list(opened.cards) == ["trunk", "alpha", "beta", "pupil", "guide"]
    assert opened.bank is None
    assert opened.policy is None
    assert opened.vectors == {}
    assert opened.fallback == "trunk"
    found = {(a.kind, a.name): a for a in opened.artifacts()}
    assert found["trunk", "tiny"].sha256 == opened.trunk_fingerprint
    assert found["adapter", "alpha"].sha256 != found["adapter", "beta"].sha256
    assert found["student", "pupil"].path == "specialists/pupil"


def test_opening_imports_no_torch(family: Path) -> None:
    code = (
        "import sys; from pilothouse.specialists.family import Family; "
        "Family.open(sys.argv[1]).artifacts(); print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(family)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-50] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("spoil", [Path.unlink, truncate, flip])
@pytest.mark.parametrize(
    "name",
    ["trunk/model.safetensors", "specialists/alpha/adapter_model.safetensors", "trunk/tokenizer.json"],
)
def test_damage_names_the_file(family: Path, name: str, spoil: Callable[[Path], None]) -> None:
    spoil(family / name)
    with pytest.raises(IntegrityError, match=name) as caught:
        TorchEngine(Family.open(family), "cpu")
    assert caught.value.exit_code == 6
    assert "restore it" in str(caught.value)


def test_truncation_is_named_even_where_nothing_was_verified(family: Path) -> None:
    truncate(family / "specialists/alpha/adapter_model.safetensors")
    engine = TorchEngine(Family.open(family), "cpu", verify=False)
    with pytest.raises(ArtifactError, match=r"alpha/adapter_model\.safetensors is truncated"):
        engine.bank.load("alpha", family / "specialists/alpha")


def test_strangers_and_pickles_are_refused(family: Path) -> None:
    (family / "README.md").write_text("documents are welcome")
    Family.open(family).verify()
    (family / "specialists/alpha/quantization.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"alpha/quantization\.json is not in the manifest"):
        Family.open(family).verify()
    (family / "specialists/alpha/quantization.json").unlink()
    (family / "trunk/pytorch_model.bin").write_bytes(b"\x80\x04")
    for check in (Family.open(family).verify, lambda: integrity.seal(family)):
        with pytest.raises(IntegrityError, match=r"pytorch_model\.bin is a pickle"):
            check()


def test_pickles_in_the_place_of_weights_are_refused(family: Path) -> None:
    weights = family / "specialists/alpha/adapter_model.safetensors"
    weights.rename(weights.with_name("adapter_model.bin"))
    engine = TorchEngine(Family.open(family), "cpu", verify=False)
    with pytest.raises(ArtifactError, match=r"adapter_model\.bin is a pickle"):
        engine.bank.load("alpha", family / "specialists/alpha")


def test_another_trunk_is_refused(family: Path, tmp_path: Path) -> None:
    flip(family / "trunk/model.safetensors")
    integrity.seal(family)
    with pytest.raises(IntegrityError, match="was made for"):
        Family.open(family).verify()
    folder = family / "specialists/beta"
    Card.load(folder).model_copy(update={"parent_sha256": "0" * 64}).save(folder)
    with pytest.raises(ArtifactError, match="'beta' was made for the model 000000000000"):
        Family.open(family)


def test_vectors_for_another_trunk_are_refused(family: Path) -> None:
    import torch

    vector = SteeringVector("v", "add", 0, 1.0, "both", torch.ones(32), fingerprint="0" * 64)
    vector.save(family / "vectors" / "v")
    with pytest.raises(ArtifactError, match="'v' was made for"):
        _ = Family.open(family).vectors


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b", "..\\up"])
def test_paths_never_leave_the_family(family: Path, path: str) -> None:
    edit(family / FAMILY, 'trunk = "trunk"', f"trunk = '{path}'")
    with pytest.raises(IntegrityError, match="leaves the family folder"):
        Family.open(family)


def test_links_never_leave_the_family(family: Path, tmp_path: Path) -> None:
    shutil.move(family / "trunk", tmp_path / "outside")
    (family / "trunk").symlink_to(tmp_path / "outside")
    with pytest.raises(IntegrityError, match="leaves the family folder"):
        Family.open(family)


def test_manifests_cannot_name_other_files(family: Path) -> None:
    edit(family / "manifest.json", '"family.toml"', '"../../etc/passwd"')
    with pytest.raises(IntegrityError, match="leaves the family folder"):
        Family.open(family).verify()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (FAMILY, 'title = ', 'titel = ', r"family\.toml: titel: unknown key"),
        (FAMILY, "format = 1", "format = 2", r"family\.toml: format: "),
        (FAMILY, 'name = "tiny"', 'name = ', r"family\.toml cannot be read as TOML"),
        (FAMILY, 'fallback = "trunk"', 'fallback = "nobody"', "names the fallback 'nobody'"),
        (FAMILY, 'trunk = "trunk"', '', "either trunk"),
        (FAMILY, '"guide"', '"../guide"', r"family\.toml: specialists\.4: "),
        (FAMILY, '"guide"', '"gone"', r"specialists/gone/card\.toml is missing"),
        ("specialists/alpha/card.toml", "title = ", "colour = ", r"card\.toml: title: .*colour: unknown key"),
        ("specialists/alpha/card.toml", 'name = "alpha"', 'name = "beta"', "must be 'alpha'"),
    ],
)  # fmt: skip
def test_faulty_settings_are_named(family: Path, file: str, old: str, new: str, message: str) -> None:
    edit(family / file, old, new)
    with pytest.raises(ArtifactError, match=message):
        Family.open(family)


def test_families_are_found_by_name(family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path / "home"))
    with pytest.raises(NotFoundError, match="no family 'mine'"):
        Family.open("mine")
    shutil.copytree(family, tmp_path / "home/data/families/mine")
    assert "mine" in known_families()
    assert Family.open("mine").name == "tiny"
    with pytest.raises(NotFoundError, match=r"holds no family\.toml"):
        Family.open(tmp_path / "home")
    with pytest.raises(NotFoundError, match=r"'gamma': it has trunk, alpha"):
        Family.open("mine").card("gamma")
