"""The vllm engine against the suite that every engine passes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilothouse.specialists.engines.conformance import CHECKS, Suite
from pilothouse.specialists.engines.reference import Reference
from pilothouse.specialists.engines.vllm.engine import VllmEngine
from pilothouse.specialists.engines.vllm.host import BLOCK
from pilothouse.specialists.family import Family


@pytest.fixture(scope="module")
def suite(toy: Path, reference: Reference) -> Iterator[Suite]:
    family = Family.open(toy)
    engine = VllmEngine(family)
    yield Suite(engine, reference, lambda capacity: VllmEngine(family, capacity=capacity), grain=BLOCK)
    engine.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_vllm(suite: Suite, check: Callable[[Suite], None]) -> None:
    check(suite)
