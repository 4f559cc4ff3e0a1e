"""`pilothouse doctor`: check this installation, and say what to do about each fault."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from ...store import paths
from ...store.errors import PilothouseError
from ...store.printable import visible
from . import console
from .console import FamilyOption, JsonOption

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

PACKAGES = ("pilothouse", "torch", "transformers", "langgraph", "peft", "sqlalchemy", "pydantic", "typer")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_vnni", "neon", "asimd", "bf16")
State = Literal["ok", "note", "fault"]


class Finding(NamedTuple):
    """One line of the report; `code` is the exit code that a fault leaves with."""

    name: str
    state: State
    text: str
    code: int = 0


@app.command()
def doctor(family: FamilyOption = None, as_json: JsonOption = False) -> None:
    """Check this installation and say what to do about each fault.

    Leaves with 0 when all is well, else with the code of the worst fault (5: the log, 6: the family).
    """
    found = list(examine(family))
    if as_json:
        console.print_json([finding._asdict() for finding in found])
    else:
        for finding in found:
            typer.echo(visible(f"{finding.state:<5} {finding.name:<9} {finding.text}", keep=""))
    worst = max((finding.code for finding in found), default=0)
    if worst:
        raise typer.Exit(worst)


def examine(family: str | None) -> Iterator[Finding]:
    """Look at everything, one finding after another; a fault in one does not hide the next."""
    yield Finding("versions", "ok", _versions())
    yield Finding("machine", "ok", _machine())
    looks = (("settings", _settings), ("packages", _packages), ("log", _log), ("threads", _threads))
    for name, look in looks:
        yield from _guarded(name, look)
    yield from _guarded("family", lambda: _family(family))
    yield from _guarded("engine", lambda: _engine(family))
    yield from _guarded("device", _device)


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except PilothouseError as fault:
        yield Finding(name, "fault", str(fault), fault.exit_code)


def _versions() -> str:
    shown = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            shown.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            shown.append(f"{name} (not installed)")
    return ", ".join(shown)


def _machine() -> str:
    flags = _cpu_flags()
    known = [flag for flag in FLAGS if flag in flags]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.1f} GB, "
        f"CPU has {', '.join(known) or 'none of the vector units looked for'}"
    )


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return set(lines[0].partition(":")[2].split()) if lines else set()


def _settings() -> Iterator[Finding]:
    from ..settings import resolve

    changed = [f"{key} ({origin})" for key, origin in resolve().origins.items() if origin != "default"]
    yield Finding("settings", "ok", f"changed: {', '.join(changed)}" if changed else "all at their defaults")


def _packages() -> Iterator[Finding]:
    """What installed packages add by name; what is broken is noted, for only those who ask for it meet it."""
    from ...router.probes.probe import PROBES
    from ...specialists.engines.base import ENGINES
    from ...specialists.family import FAMILIES
    from ...store.sinks import SINKS

    for group in (ENGINES, FAMILIES, PROBES, SINKS):
        for name, places in group.entries().items():
            if places[0].own:
                continue
            try:
                group.load(name)
            except PilothouseError as fault:
                yield Finding("packages", "note", str(fault))
            else:
                yield Finding("packages", "ok", f"{group.noun} {name!r} of {places[0].package}")


def _log() -> Iterator[Finding]:
    from ...store.audit import Audit
    from ...store.database import HEAD
    from ...store.errors import StoreMissingError
    from ...store.ledger import Ledger

    place = paths.log_place()
    try:
        with Audit.open(place) as audit:
            found = audit.verify()
    except StoreMissingError:
        yield Finding("log", "note", f"{place}: none yet; the first answer makes it")
        return
    if found.broken is not None:
        yield Finding("log", "fault", f"{place} was changed outside this program: {found.broken.reason}", 4)
    else:
        yield Finding(
            "log", "ok", f"{place}: schema {HEAD}, {found.records} records, chain whole, tip {found.tip}"
        )
    with Ledger.open(place) as ledger:  # can it be written?
        for text in ledger.notes:
            yield Finding("log", "note", text)


def _threads() -> Iterator[Finding]:
    from ..forgetting import threads_path
    from ..threads import open_threads

    if not threads_path().exists():
        yield Finding("threads", "note", f"{threads_path()}: none yet")
        return
    open_threads().close()
    yield Finding("threads", "ok", str(threads_path()))


def _family(name: str | None) -> Iterator[Finding]:
    from ...specialists.family import Family

    opened = Family.open(name or console.settings_with().family)
    opened.verify()
    size = sum(path.stat().st_size for path in opened.folder.rglob("*") if path.is_file())
    parts = f"{len(opened.cards)} specialists, {size / 1e6:.1f} MB, every file as made"
    yield Finding("family", "ok", f"{opened.name} at {opened.folder}: {parts}")


def _engine(name: str | None) -> Iterator[Finding]:
    from ...specialists.engines.choose import described
    from ...specialists.family import Family

    settings = console.settings_with()
    native, text = described(Family.open(name or settings.family), settings.device)
    yield Finding("engine", "ok" if native else "note", text)


def _device() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        yield Finding("device", "ok", f"GPU {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}")
    else:
        yield Finding("device", "ok", f"CPU, {torch.get_num_threads()} threads")
