"""Run a recipe: every step once, resumable at any moment, one log, a results card, and registration last."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from ...store.errors import InterruptedByUser, PilothouseError, UsageError
from ...store.version import code_version
from .chain import Link, Mark, digest_of, run_chain
from .crew import crew
from .guard import register_tests
from .recipe import TRUNK, Planned, Whole
from .sizes import loaded, peak, reset_peak
from .step import Context, Made

TELL_SECONDS = 5.0
FULL = (errno.ENOSPC, errno.EDQUOT)


class BuildError(PilothouseError):
    """A step could not be finished; the steps before it are kept."""


@dataclass
class Yard:
    """The folder of one run: artifacts, checkpoints, marks, one log; and the progress line."""

    folder: Path
    whole: Whole
    resume: bool = False
    stream: TextIO | None = None
    step: str = ""
    told: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.whole.recipe.seed

    def path(self, *parts: str) -> Path:
        """Return a path inside the run's folder."""
        return self.folder.joinpath(*parts)

    def say(self, line: str) -> None:
        """Write one line to the run log and to the terminal."""
        stamped = f"[{time.strftime('%H:%M:%S')}] {line}"
        with self.path("run.log").open("a", encoding="utf-8") as log:
            log.write(stamped + "\n")
        if self.stream is not None:
            print(stamped, file=self.stream, flush=True)

    def tick(self, done: int, total: int) -> None:
        """Tell how far a step is, at most every few seconds, with what is left of it and of the recipe."""
        now = time.monotonic()
        if now - self.told < TELL_SECONDS or not done:
            return
        self.told, left = now, (now - self.begun) * (total - done) / done
        later = sum(s.estimate.seconds for s in self._after())
        self.say(f"{self.step} {done}/{total}, {clock(left)} left; {clock(left + later)} to the recipe's end")

    def _after(self) -> tuple[Planned, ...]:
        names = [s.name for s in self.whole.steps]
        return self.whole.steps[names.index(self.step) + 1 :] if self.step in names else ()


def clock(seconds: float) -> str:
    """Write a duration: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def build(whole: Whole, folder: Path, resume: bool = False, stream: TextIO | None = None) -> dict[str, Any]:
    """Run a planned recipe in ``folder`` and return its results card.

    Finished steps are never done again. An interrupted step goes on from its last checkpoint with
    ``resume``, and starts over without it. The specialist is registered after every step has finished.
    Of several processes that were started together, the main one does so; the others join it in the steps
    that train, and return an empty card.

    Raises:
        BuildError: a loss was not finite, the disk is full, or memory ran out; finished steps are kept.
        UsageError: another build runs in the folder, or there is no room for the run.
        InterruptedByUser: Ctrl-C.
    """
    if not crew().main:
        follow(whole, folder)
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        yard = Yard(folder, whole, resume, stream)
        for note in whole.notes:
            yard.say(note)
        _room(yard)
        links = [_link(step, whole) for step in whole.steps]
        with clearly(yard):
            marks = run_chain(links, yard)
            crew().once(str)
            card = results(whole, marks, yard)
            _register(whole, yard, card)
        register_tests(whole.data, whole.recipe.name)
        yard.say(f"done: {yard.path('card.json')}")
    return card


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises UsageError where another build has it."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another build runs in {folder}: wait for it, or give another --work"
            ) from error
        yield


def follow(whole: Whole, folder: Path) -> None:
    """Join the main process in each step that trains, until it says that there are no more.

    Raises:
        BuildError: the main process stopped, or the step failed here.
    """
    yard = Yard(folder, whole)
    steps = {step.name: step for step in whole.steps}
    try:
        while name := crew().once(str):
            with TemporaryDirectory() as out:
                context = _context(steps[name], whole, yard, Path(out))
                steps[name].kind.run(steps[name].settings, replace(context, say=_unheard, tick=_unheard))
    except (OSError, RuntimeError, ValueError, FloatingPointError) as error:
        raise BuildError(f"process {crew().rank} stopped: {error}") from error


def _unheard(*words: object) -> None:
    """The main process speaks for all."""


def _room(yard: Yard) -> None:
    wanted = sum(
        s.estimate.disk for s in yard.whole.steps if not yard.path("steps", f"{s.name}.json").exists()
    )
    free = shutil.disk_usage(yard.folder).free
    if wanted > free:
        raise UsageError(
            f"the run needs about {wanted / 1e6:,.0f} MB in {yard.folder}, {free / 1e6:,.0f} MB are free: "
            "make room, or give a --work folder elsewhere"
        )


@contextmanager
def clearly(yard: Yard) -> Iterator[None]:
    """Say in one sentence what stopped a step, and what is kept."""
    kept = f"finished steps are kept in {yard.folder}; run it again with --resume"
    try:
        yield
    except (KeyboardInterrupt, InterruptedByUser):
        yard.say(f"{yard.step}: interrupted")
        raise InterruptedByUser(f"interrupted in step {yard.step}: {kept}") from None
    except PilothouseError as error:
        yard.say(f"{yard.step}: {error}")
        raise
    except FloatingPointError as error:
        yard.say(f"{yard.step}: {error}")
        raise BuildError(f"step {yard.step}: {error}; finished steps are kept in {yard.folder}") from error
    except MemoryError as error:
        raise BuildError(f"step {yard.step}: out of memory; make its batches smaller; {kept}") from error
    except (OSError, RuntimeError, ValueError) as error:
        said = _told(error, yard, kept)
        yard.say(f"{yard.step}: {said}")
        raise BuildError(f"step {yard.step}: {said}") from error
    except Exception as error:  # safetensors raises a bare class of its own when the disk is full
        if "No space left" not in str(error):
            raise
        raise BuildError(f"step {yard.step}: {_full(yard, kept)}") from error


def _told(error: Exception, yard: Yard, kept: str) -> str:
    if (isinstance(error, OSError) and error.errno in FULL) or "No space left" in str(error):
        return _full(yard, kept)
    if "allocate memory" in str(error) or "out of memory" in str(error).lower():
        return f"out of memory; make its batches smaller; {kept}"
    return f"{error}; {kept}"


def _full(yard: Yard, kept: str) -> str:
    return f"the disk of {yard.folder} is full; make room; {kept}"


def _link(step: Planned, whole: Whole) -> Link[Yard]:
    """One step as a link of the chain: its key holds kind, version, settings, data and where it starts."""
    settings = step.settings
    starts = {n: digest_of_model(whole.models[n]) for n in {TRUNK, *step.inputs} if n in whole.models}
    family = digest_of(whole.family / "manifest.json") if whole.family else ""
    data = {n: whole.data[n].sha256 for n in settings.sets()}
    key = (step.kind.name, step.kind.version, settings.model_dump_json(), sorted(data.items()))
    return Link(
        step.name,
        partial(_run, step, whole),
        (*key, sorted(starts.items()), family, step.inputs),
        (step.name, f"{step.name}.run", f"{step.name}.part"),
        tuple(n for n in step.inputs if n not in whole.models),
        step.name,
    )


def _run(step: Planned, whole: Whole, yard: Yard) -> Mapping[str, Any]:
    """Run one step in its folders; its artifact takes its name only when it is whole."""
    yard.step, yard.begun, yard.told = step.name, time.monotonic(), time.monotonic()
    out, work = yard.path(f"{step.name}.part"), yard.path(f"{step.name}.run")
    for path in (out, yard.path(step.name), *(() if yard.resume else (work,))):
        shutil.rmtree(path, ignore_errors=True)
    for path in (out, work):
        path.mkdir(parents=True, exist_ok=True)
    if step.kind.trains:
        crew().once(lambda: step.name)
    context = _context(step, whole, yard, out)
    before = loaded()
    reset_peak()
    figures = dict(step.kind.run(step.settings, context))
    figures["memory"] = {
        "estimated": step.estimate.memory + before,
        "peak": max(peak(), before),
        "before": before,
    }
    out.rename(yard.path(step.name))
    shutil.rmtree(work, ignore_errors=True)
    return figures


def _context(step: Planned, whole: Whole, yard: Yard, out: Path) -> Context:
    work = yard.path(f"{step.name}.run")
    data = {n: whole.data[n] for n in step.settings.sets()}
    inputs = tuple(made_by(n, whole, yard) for n in step.inputs)
    trunk = made_by(TRUNK, whole, yard)
    return Context(work, out, yard.seed, inputs, trunk, data, whole.family, yard.say, yard.tick)


def made_by(name: str, whole: Whole, yard: Yard) -> Made:
    """Return what a step, or a model of the recipe, stands for in this run."""
    if name in whole.models:
        folder = whole.models[name]
        return Made(name, "model", folder, digest_of_model(folder))
    step = next(s for s in whole.steps if s.name == name)
    folder, base = yard.path(name), None
    if step.form == "adapter":
        first = made_by(step.inputs[0] if step.inputs else TRUNK, whole, yard)
        base = first.base if first.form == "adapter" else first.folder
    return Made(name, step.form, folder, digest_of(folder), base)


def digest_of_model(folder: Path) -> str:
    """`digest_of` a model folder, remembered as long as its files keep their sizes and times."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return _digest(folder, tuple((p, p.stat().st_size, p.stat().st_mtime_ns) for p in files))


@lru_cache(maxsize=64)
def _digest(folder: Path, state: tuple[tuple[Path, int, int], ...]) -> str:
    return digest_of(folder)


def results(whole: Whole, marks: Mapping[str, Mark], yard: Yard) -> dict[str, Any]:
    """Write ``card.json`` and ``card.md``, and return the card."""
    recipe = whole.recipe
    card: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "licence": recipe.licence,
        "code": code_version(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "data": {
            n: {"rows": len(d.rows), "licence": d.licence, "source": d.source, "sha256": d.sha256}
            for n, d in whole.data.items()
        },
        "steps": {
            s.name: {
                "step": s.kind.name,
                "form": s.form,
                "from": list(s.inputs),
                "settings": s.settings.model_dump(mode="json"),
                "sha256": marks[s.name].digest,
                "seconds": marks[s.name].seconds,
                "estimated_seconds": round(s.estimate.seconds, 1),
                "figures": marks[s.name].figures,
            }
            for s in whole.steps
        },
    }
    write(yard.path("card.json"), json.dumps(card, indent=1) + "\n")
    write(yard.path("card.md"), markdown(card))
    return card


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def markdown(card: Mapping[str, Any]) -> str:
    """Return a results card as a page."""
    lines = [
        f"# {card['recipe']}",
        "",
        f"seed {card['seed']}, {card['code']}, licence {card['licence'] or '–'}",
        "",
    ]
    lines += ["| data | rows | licence | source |", "|---|---|---|---|"]
    lines += [f"| {n} | {d['rows']} | {d['licence']} | {d['source']} |" for n, d in card["data"].items()]
    lines += ["", "| step | makes | seconds | estimated | SHA-256 |", "|---|---|---|---|---|"]
    for name, s in card["steps"].items():
        cells = (f"{name} ({s['step']})", s["form"], s["seconds"], s["estimated_seconds"], s["sha256"][:12])
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for name, s in card["steps"].items():
        lines += ["", f"## {name}", "", *_figures(s["figures"])]
    return "\n".join(lines) + "\n"


def _figures(figures: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key, value in figures.items():
        if isinstance(value, Mapping):
            lines += _figures(value, f"{prefix}{key}.")
        else:
            lines.append(
                f"* {prefix}{key}: {value:.6g}" if isinstance(value, float) else f"* {prefix}{key}: {value}"
            )
    return lines


def _register(whole: Whole, yard: Yard, card: Mapping[str, Any]) -> None:
    if whole.recipe.register_as is None:
        return
    from .register import register

    yard.step = "register"
    place = register(whole, partial(made_by, whole=whole, yard=yard), card)
    yard.say(f"registered {whole.recipe.register_as.specialist} in {place}")
