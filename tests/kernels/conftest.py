"""Where Triton kernels are tested: on the GPU where there is one, else under Triton's interpreter."""

from importlib.util import find_spec

import pytest
import torch


@pytest.fixture
def triton_device(monkeypatch: pytest.MonkeyPatch) -> str:
    """The device for Triton kernels. The interpreter is chosen before the first kernel is imported."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed (the extra `dev` brings it on Linux)")
    if not torch.cuda.is_available():
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    return "cuda" if torch.cuda.is_available() else "cpu"
