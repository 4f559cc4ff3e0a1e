"""What setuptools runs: compile the native engine into the wheel, or leave it out and say why.

An install never fails for want of a compiler. This file and `build.py` are loaded by path, before there is
anything to import; pyproject.toml names the classes.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from setuptools.command.bdist_wheel import bdist_wheel  # type: ignore[import-untyped]
from setuptools.command.build_py import build_py  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
PACKAGE = "pilothouse.specialists.engines.native"


def _build() -> Any:
    spec = importlib.util.spec_from_file_location("pilothouse_native_build", HERE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildPy(build_py):  # type: ignore[misc]
    """`build_py`, and then the library beside the package; an editable install keeps it in the checkout."""

    def run(self) -> None:
        """Copy the Python files, then compile."""
        super().run()
        build = _build()
        if self.editable_mode:
            folder = HERE.parents[2] / ".cache" / "native"
        else:
            folder = Path(str(self.build_lib), *PACKAGE.split("."), "lib")
        target = folder / build.library_name()
        try:
            if not target.is_file():
                build.compile_library(target)
        except Exception as error:  # whatever it is: the torch engine answers without
            print(f"the native engine is left out: {error}", file=sys.stderr)


class Wheel(bdist_wheel):  # type: ignore[misc]
    """A wheel that names its platform if it holds the library; any Python 3 can load that."""

    def finalize_options(self) -> None:
        """Decide before building, as setuptools does."""
        super().finalize_options()
        self.root_is_pure = _build().compiler() is None

    def get_tag(self) -> tuple[str, str, str]:
        """No Python version and no binary interface of Python is tied to."""
        python, interface, platform = super().get_tag()
        return (python, interface, platform) if self.root_is_pure else ("py3", "none", platform)
