"""Runs the tests of the Triton kernels under Triton's interpreter, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="this is that process")
def test_the_triton_kernels_under_their_interpreter() -> None:
    pytest.importorskip("triton", reason="the extra `dev` brings triton on Linux")
    files = [str(path) for path in HERE.glob("test_*.py") if "triton_device" in path.read_text()]
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:xdist", "-k", "triton", *files]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=HERE.parents[1], check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 40
