"""A step of a recipe: what every step agrees on, and the register of those that a recipe file may name.

A step is a name, settings read from TOML (unknown keys are errors), a check and an estimate that run before
any work, and ``run(settings, context)``, which writes its artifact into ``context.out`` and returns figures
for the results card. It must be a function of its settings, its inputs' bytes, its data and the seed alone;
what it leaves in ``context.work`` (checkpoints) survives a kill, and resuming from it must give the same
bytes as a run that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from ...store.errors import UsageError
from ..card import Strict

if TYPE_CHECKING:
    from .data import Data

# What lies in an artifact's folder: a Hugging Face model folder with its tokenizer; a PEFT adapter folder;
# rows.jsonl; probes, features and vectors re-fitted for a model; or only report.json.
Form = Literal["model", "adapter", "data", "readings", "report"]
Figures = Mapping[str, Any]


class Settings(Strict):
    """Base of a step's settings: frozen, and unknown keys are errors.

    Fields called ``data``, or ending in ``_data``, and those in ``also`` name the recipe's data sets that the
    step reads: the step gets those and no others, and is done again when their rows change.
    """

    also: ClassVar[tuple[str, ...]] = ()

    def sets(self) -> tuple[str, ...]:
        """The names of the data sets that these settings ask for."""
        found: list[str] = []
        for key, value in self:
            if value and (key == "data" or key.endswith("_data") or key in self.also):
                found += [value] if isinstance(value, str) else list(value)
        return tuple(dict.fromkeys(found))


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Size:
    """The shape of a decoder, as far as an estimate needs it; ``feed`` is the width of its feed-forward."""

    parameters: int
    layers: int
    width: int
    feed: int
    vocabulary: int


@dataclass(frozen=True)
class Preview:
    """What is known before anything runs: the shapes of the inputs and the data, and this machine's speed.

    ``rows`` and ``tokens`` (a guess, four characters each) are those of each data set; ``speed`` is in
    floating-point operations a second.
    """

    inputs: tuple[Size, ...]
    rows: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    speed: float = 2e10


@dataclass(frozen=True)
class Estimate:
    """Seconds; peak bytes of memory beyond those of a process that has loaded the libraries; bytes of disk.

    ``size`` is the shape of the model that comes out, None where it is that of the first input.
    """

    seconds: float
    memory: int
    disk: int
    size: Size | None = None


@dataclass(frozen=True)
class Made:
    """A finished artifact: the step that made it (``trunk`` is what the recipe starts from), form, folder and
    one SHA-256 over its files. ``base`` is the model folder that an adapter acts on, None for other forms.
    """

    name: str
    form: Form
    folder: Path
    sha256: str
    base: Path | None = None


@dataclass(frozen=True)
class Context:
    """What a step gets to work with.

    ``work`` keeps checkpoints between kills; ``out`` is empty at the start and becomes the artifact.
    ``inputs`` are in the recipe's order; ``trunk`` is the recipe's start. ``data`` holds the data sets that
    the settings ask for, by name. ``say`` writes a line to the run log; ``tick(done, total)`` moves the
    progress line.
    """

    work: Path
    out: Path
    seed: int
    inputs: tuple[Made, ...]
    trunk: Made
    data: Mapping[str, Data] = field(default_factory=dict)
    family: Path | None = None
    say: Callable[[str], None] = lambda line: None
    tick: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True)
class Plan:
    """What ``check`` sees: the forms of the inputs, the data sets, the family's folder if the recipe names
    one. Nothing has run yet.
    """

    inputs: tuple[Form, ...]
    data: Mapping[str, Data] = field(default_factory=dict)
    family: Path | None = None
    trunk: Path | None = None


def _accept(settings: Any, plan: Plan) -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class Kind(Generic[S]):
    """A registered step.

    ``gives`` says what form comes out under these settings; ``takes`` how many inputs it wants (least, most)
    and ``accepts`` of which forms. ``check`` raises ``UsageError`` with the reason for a combination that
    cannot work. Raise ``version`` when the same settings would give other bytes: finished steps are redone.
    ``trains``: several processes started together all run it, and meet in ``loop.learn`` (see ``crew``); a
    step that does not train is run by the main one alone.
    """

    name: str
    settings: type[S]
    run: Callable[[S, Context], Figures]
    estimate: Callable[[S, Preview], Estimate]
    gives: Callable[[S], Form]
    takes: tuple[int, int] = (1, 1)
    accepts: Sequence[Form] = ("model",)
    check: Callable[[S, Plan], None] = _accept
    version: int = 1
    help: str = ""
    trains: bool = False


# name in a recipe -> module beside this one, which has the Kind as `STEP`; imported when a recipe names it
STEPS: dict[str, str] = {
    "align": "align_step",
    "distill": "distill_step",
    "edit": "edit_step",
    "finetune": "finetune_step",
    "merge": "merge_step",
    "prune": "prune_step",
    "quantize": "quantize_step",
    "verify": "verify_step",
}
_added: dict[str, Kind[Any]] = {}


def register(kind: Kind[Any]) -> None:
    """Let recipes of this process name ``kind``: for steps of other packages."""
    _added[kind.name] = kind


def step_of(name: str) -> Kind[Any]:
    """Return the step called ``name``.

    Raises:
        UsageError: there is none; the message names those there are.
    """
    if name in _added:
        return _added[name]
    if name not in STEPS:
        raise UsageError(f"there is no step {name!r}: the steps are {', '.join(sorted({*STEPS, *_added}))}")
    kind: Kind[Any] = import_module(f".{STEPS[name]}", __package__).STEP
    return kind
