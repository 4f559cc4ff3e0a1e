"""One toy family and its plain twin for all engine tests. Makes this folder's helpers importable."""

import sys
from pathlib import Path

import pytest

from pilothouse.specialists.engines.reference import Reference
from pilothouse.specialists.engines.toy import make_family
from pilothouse.specialists.family import Family

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_family(tmp_path_factory.mktemp("engines") / "toy")


@pytest.fixture(scope="session")
def reference(toy: Path) -> Reference:
    return Reference(Family.open(toy))
