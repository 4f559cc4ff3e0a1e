"""Where Triton kernels are tested: on a GPU, or under Triton's interpreter in a Python that was started for
it.

Triton reads TRITON_INTERPRET when it is first imported, which other packages may do at any time. So on a CPU
`test_interpreter.py` runs these tests in a process of its own, and here they are left out.
"""

import os
from importlib.util import find_spec

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if find_spec("triton") and (INTERPRETED or torch.cuda.is_available()):
        return
    ours = [item for item in items if "triton_device" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=ours)
    items[:] = [item for item in items if item not in set(ours)]


@pytest.fixture
def triton_device() -> str:
    """The device for Triton kernels."""
    return "cpu" if INTERPRETED else "cuda"
