"""Every engine against the one suite. A new engine joins `ENGINES`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilothouse.specialists.engines.base import BatchEngine, Capacity
from pilothouse.specialists.engines.conformance import CHECKS, Suite
from pilothouse.specialists.engines.native.engine import NativeEngine
from pilothouse.specialists.engines.reference import Reference
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family

Make = Callable[[Family, Capacity], BatchEngine]
ENGINES: dict[str, Make] = {
    "torch-lean": lambda family, capacity: TorchEngine(family, "cpu", lean=True, capacity=capacity),
    "native": lambda family, capacity: NativeEngine(family, 1, capacity=capacity),
    "torch-huggingface": lambda family, capacity: TorchEngine(family, "cpu", lean=False, capacity=capacity),
}


@pytest.fixture(scope="module", params=ENGINES)
def suite(request: pytest.FixtureRequest, toy: Path, reference: Reference) -> Iterator[Suite]:
    family, make = Family.open(toy), ENGINES[request.param]
    engine = make(family, Capacity())
    yield Suite(engine, reference, lambda capacity: make(family, capacity))
    engine.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_engine(suite: Suite, check: Callable[[Suite], None]) -> None:
    check(suite)
