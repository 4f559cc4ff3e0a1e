"""Where things live, and one variable that moves them all."""

from pathlib import Path

import pytest

from pilothouse.store import paths


def test_one_variable_moves_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PILOTHOUSE_LOG", raising=False)
    monkeypatch.setenv("PILOTHOUSE_HOME", str(tmp_path))
    folders = [paths.data_dir(), paths.config_dir(), paths.cache_dir(), paths.state_dir()]
    assert folders == [tmp_path / kind for kind in ("data", "config", "cache", "state")]
    assert paths.log_place() == str(tmp_path / "data" / "log.db")
    assert list(tmp_path.iterdir()) == []  # asking makes nothing


def test_the_platform_decides_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOTHOUSE_HOME", "")  # empty is unset
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert paths.data_dir() == tmp_path / "pilothouse"


def test_the_log_can_live_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTHOUSE_LOG", "postgresql://db.example/log")
    assert paths.log_place() == "postgresql://db.example/log"
