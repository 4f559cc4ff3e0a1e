"""Settings: precedence, origins, and faults that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.agents.settings import Settings, resolve, user_file
from pilothouse.store.errors import UsageError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults(home: Path, tmp_path: Path) -> None:
    found = resolve(folder=tmp_path)
    assert found.settings == Settings()
    assert set(found.origins.values()) == {"default"}


def test_precedence(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = write(user_file(), "max_tokens = 1\nseed = 1\ntemperature = 1.0\nfamily = 'mine'")
    project = write(tmp_path / "pilothouse.toml", "max_tokens = 2\nseed = 2\ntemperature = 2.0")
    monkeypatch.setenv("PILOTHOUSE_MAX_TOKENS", "3")
    monkeypatch.setenv("PILOTHOUSE_SEED", "3")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    found = resolve({"max_tokens": 4, "device": None}, deep)
    settings = found.settings
    assert (settings.max_tokens, settings.seed, settings.temperature, settings.family) == (4, 3, 2.0, "mine")
    origins = [found.origins[key] for key in ("max_tokens", "seed", "temperature", "family", "device")]
    assert origins == ["flag", "environment PILOTHOUSE_SEED", str(project), str(user), "default"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_token = 3", r"unknown setting 'max_token' .*did you mean 'max_tokens'\?"),
        ("zzz = 3", "known are family"),
        ("log = 'x'", "set PILOTHOUSE_LOG in the environment"),
        ("max_tokens = 0", "max_tokens is 0"),
        ("max_tokens = 'many'", "max_tokens is 'many'"),
        ("max_tokens = ", "cannot be read"),
    ],
)
def test_faults_in_a_file(home: Path, tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "pilothouse.toml", text)
    with pytest.raises(UsageError, match=message) as caught:
        resolve(folder=tmp_path)
    assert str(path) in str(caught.value)


def test_a_misspelt_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_FAMLY", "x")
    with pytest.raises(UsageError, match="did you mean 'family'"):
        resolve()
