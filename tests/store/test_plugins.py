"""Entry points: what packages add is found by name, what is broken breaks only those who ask for it."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from small_package import install

from pilothouse.store import plugins
from pilothouse.store.errors import PluginError, UsageError
from pilothouse.store.plugins import Group

GROUP = Group("pilothouse.engines", "engine")
ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.mark.parametrize("group", [name for name in DECLARED if name.startswith("pilothouse.")])
def test_the_built_in_ones_are_entry_points_that_load(group: str) -> None:
    found = Group(group, "thing")
    assert {name for name in found.names() if found.owns(name)} == set(DECLARED[group])
    for name in DECLARED[group]:
        assert callable(found.load(name))


def test_a_checkout_that_is_not_installed_has_them_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))  # another path is looked at anew
    monkeypatch.setattr(plugins, "_installed", lambda path: metadata.EntryPoints())
    assert set(GROUP.names()) == set(DECLARED["pilothouse.engines"])
    assert callable(GROUP.load("torch"))


def test_a_package_adds_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        place, monkeypatch, {GROUP.name: {"sail": "harbour:sail"}}, "def sail(wind): return ('sail', wind)"
    )
    assert GROUP.names()[-1] == "sail"
    assert "harbour" not in sys.modules, "listing imports nothing"
    assert GROUP.make("sail", wind=3) == ("sail", 3)


def test_an_unknown_name_lists_those_there_are(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(place, monkeypatch, {GROUP.name: {"sail": "harbour:sail"}})
    with pytest.raises(
        UsageError, match=r"engine 'oar' is unknown: use one of 'auto'.*'sail'.*install a pack"
    ):
        GROUP.load("oar")


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        ("harbour:sail", "raise RuntimeError('no wind')", r"cannot be loaded \(RuntimeError: no wind\)"),
        ("harbour:sail", "raise SystemExit(3)", r"cannot be loaded \(SystemExit"),
        ("harbour:sail", "import nothing_of_that_name", "cannot be loaded"),
        ("harbour:sail", "", "cannot be loaded"),
        ("nowhere:sail", "", "cannot be loaded"),
        ("not a value", "", "cannot be loaded"),
        ("harbour:sail", "sail = 3", "is a int, not a function"),
        ("harbour:sail", "def sail(): raise ValueError('torn')", r"failed \(ValueError: torn\)"),
    ],
)
def test_a_broken_one_breaks_who_asks_for_it(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    value: str,
    code: str,
    said: str,
) -> None:
    group = Group("harbour.things", "thing")
    install(place, monkeypatch, {group.name: {"sail": value, "good": "harbour2:good"}}, code)
    (place / "harbour2.py").write_text("def good(): return 7")
    monkeypatch.delitem(sys.modules, "harbour2", raising=False)
    with pytest.raises(PluginError, match=said) as caught:
        group.make("sail")
    assert "harbour 1.2" in str(caught.value)
    assert dict(group.make_all()) == {"good": 7}
    assert "'sail'" in caplog.text


def test_nobody_takes_a_built_in_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(place, monkeypatch, {GROUP.name: {"torch": "harbour:sail"}}, "def sail(): return 1")
    assert GROUP.load("torch").__module__ == "pilothouse.specialists.engines.choose"


def test_two_packages_that_disagree_are_told_apart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("harbour", "lagoon"):
        points = {GROUP.name: {"sail": f"{name}:sail"}}
        install(place / name, monkeypatch, points, "def sail(): return 1", name)
    assert "sail" in GROUP.names()
    with pytest.raises(PluginError, match=r"claimed by (harbour|lagoon) 1\.2 and (harbour|lagoon) 1\.2"):
        GROUP.load("sail")
