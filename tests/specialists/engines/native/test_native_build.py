"""How the native engine is compiled, found and left out; its C++ under the compiler's sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from pilothouse.specialists.engines import choose
from pilothouse.specialists.engines.base import NotOffered
from pilothouse.specialists.engines.native import build
from pilothouse.specialists.engines.native import library as lib
from pilothouse.specialists.engines.native.engine import NativeEngine
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.store.errors import UsageError

SELFTEST = Path(__file__).with_name("selftest.cpp")
CHECKOUT = Path(__file__).resolve().parents[4]


def supported(flag: str, folder: Path) -> bool:
    """Whether the compiler makes programs with this flag that run."""
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() { return 0; }\n")
    command = [str(build.compiler()), flag, str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0 and subprocess.run([program], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_the_engine_is_clean_under_sanitizers(sanitizer: str, tmp_path: Path) -> None:
    if not supported(f"-fsanitize={sanitizer}", tmp_path):
        pytest.skip(f"this compiler has no -fsanitize={sanitizer}")
    # kept between runs, for compiling takes far longer than running; the name changes with every source
    digest = build.library_name(SELFTEST.read_bytes()).removesuffix(".so")
    program = CHECKOUT / ".cache" / "native" / f"{digest}-{sanitizer.partition(',')[0]}"
    if not program.is_file():
        flags = ("-O1", "-g1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
        build.compile_library(program, flags, [SELFTEST], plain=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    assert not done.stderr


def test_the_librarys_name_changes_with_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(build.SOURCES, tmp_path / "src")
    before = build.library_name()
    monkeypatch.setattr(build, "SOURCES", tmp_path / "src")
    assert build.library_name() == before
    (tmp_path / "src" / "pool.cpp").write_text("// another\n")
    assert build.library_name() != before


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler"):
        build.compile_library(tmp_path / "lib.so")
    monkeypatch.setattr(lib, "places", lambda: [tmp_path / "a.so", tmp_path / "b" / "b.so"])
    with pytest.raises(lib.NativeUnavailable, match="install one"):
        lib._compiled()


def test_a_compilers_complaint_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "bad.cpp").write_text("int main() { return nothing; }\n")
    monkeypatch.setattr(build, "SOURCES", tmp_path / "src")
    with pytest.raises(build.BuildError, match="nothing"):
        build.compile_library(tmp_path / "out" / "lib.so")
    assert not list((tmp_path / "out").iterdir()), "nothing half made is left"


# -- which engine answers ----------------------------------------------------------------------------------


def test_the_native_engine_is_chosen_where_it_can_be(tiny_family: Path) -> None:
    family = Family.open(tiny_family)
    for name in ("auto", "native"):
        engine = choose.open_engine(family, name, "cpu", 1)
        assert isinstance(engine, NativeEngine)
        engine.close()
    engine = choose.open_engine(family, "torch", "cpu", 1)
    assert isinstance(engine, TorchEngine)
    engine.close()
    with pytest.raises(UsageError, match="'abacus'"):
        choose.open_engine(family, "abacus")
    assert "'cuda'" in str(choose.why_not_native(family, "cuda"))


def test_where_it_cannot_the_torch_engine_answers_and_the_reason_is_told(
    tiny_family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Family.open(tiny_family)
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Family, "trunk_folder", tmp_path)
        assert "gpt2" in str(choose.why_not_native(family, "cpu"))
        with pytest.raises(NotOffered, match="gpt2"):
            choose.open_engine(family, "native", "cpu")
    monkeypatch.setattr(choose, "why_no_library", lambda: "there is no C++ compiler")
    engine = choose.open_engine(family, "auto", "cpu", 1)
    assert isinstance(engine, TorchEngine)
    engine.close()
    with pytest.raises(NotOffered, match="no C\\+\\+ compiler"):
        choose.open_engine(family, "native", "cpu")
