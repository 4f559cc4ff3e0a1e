"""A recipe file: what to start from, which data, which steps; read, checked and estimated before any work."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ...store.errors import UsageError
from ..card import Name, Strict, described
from ..family import Family
from . import data as sources
from .data import Data, Table
from .guard import guarded
from .step import Estimate, Form, Kind, Plan, Preview, Settings, Size, step_of

TRUNK = "trunk"
ENGINE_KEYS = ("step", "name", "from")


class Register(Strict):
    """The ``[register]`` table: what becomes of the artifact of ``step`` (the last one by default).

    ``family`` is where it goes, the recipe's family by default; a copy of it is changed and put in its place
    whole. As ``trunk``, the artifact replaces the family's trunk. A family with probes takes nothing that no
    ``verify`` step found sound.
    """

    specialist: Name
    step: str | None = None
    family: str | None = None
    role: Literal["specialist", "trunk"] = "specialist"
    title: str
    description: str
    examples: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    max_tokens: Annotated[int, Field(ge=1)] = 64
    out_of_domain: str = ""


class Recipe(Strict):
    """A recipe file. ``family`` (a name or folder) or ``trunk`` (a model folder) is what it starts from;
    ``models`` are further model folders that steps may name; paths start at the recipe's own folder.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    name: Name
    seed: Annotated[int, Field(ge=0)] = 0
    family: str | None = None
    trunk: str | None = None
    licence: str = ""
    models: Annotated[dict[str, str], Field(default_factory=dict)]
    data: Annotated[dict[str, Table], Field(default_factory=dict)]
    steps: tuple[dict[str, Any], ...] = Field(min_length=1)
    register_as: Annotated[Register | None, Field(alias="register")] = None

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe file.

        Raises:
            UsageError: it is not there, no TOML, or has unknown, missing or wrong keys.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UsageError(f"there is no recipe {path}: give a TOML file, see docs/build.md") from None
        except ValidationError as error:
            raise UsageError(f"{path}: {described(error)}") from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read as TOML ({error}): correct it") from error


@dataclass(frozen=True)
class Planned:
    """A step with its settings parsed, its inputs named and its cost estimated."""

    name: str
    kind: Kind[Any]
    settings: Settings
    inputs: tuple[str, ...]
    form: Form
    estimate: Estimate


@dataclass(frozen=True)
class Whole:
    """A recipe that passed every check; ``models`` are the folders that steps start from, by name."""

    recipe: Recipe
    steps: tuple[Planned, ...]
    data: Mapping[str, Data]
    models: Mapping[str, Path]
    family: Path | None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Estimated seconds of all steps."""
        return sum(step.estimate.seconds for step in self.steps)


def plan(recipe: Recipe, base: Path, speed: float = 2e10) -> Whole:
    """Check a recipe whole and estimate it; ``base`` is its folder.

    Raises:
        UsageError: something in it cannot work; the message says what and why.
    """
    family = None if recipe.family is None else _family(recipe.family, base)
    models = _models(recipe, base, family)
    loaded = {n: sources.load(n, t, base, recipe.seed) for n, t in recipe.data.items()}
    data, notes = guarded(loaded, recipe.data)
    steps: list[Planned] = []
    for number, table in enumerate(recipe.steps, 1):
        planner = _Planner(tuple(steps), data, models, family.folder if family else None, speed)
        steps.append(planner.step(number, table))
    whole = Whole(recipe, tuple(steps), data, models, family.folder if family else None, notes)
    _check_register(whole)
    return whole


def _family(place: str, base: Path) -> Family:
    local = base / place
    return Family.open(local if (local / "family.toml").is_file() else place)


def _models(recipe: Recipe, base: Path, family: Family | None) -> dict[str, Path]:
    if (family is None) == (recipe.trunk is None):
        raise UsageError("a recipe starts from either a family or a trunk (a model folder): give one of them")
    found = {TRUNK: family.trunk_folder if family else base / str(recipe.trunk)}
    for name, place in recipe.models.items():
        if name == TRUNK:
            raise UsageError("[models] names trunk: that is what the recipe starts from; choose another name")
        found[name] = base / place
    for name, folder in found.items():
        if not (folder / "config.json").is_file():
            raise UsageError(f"model {name!r}: {folder} is no model folder (it has no config.json)")
    return found


@dataclass(frozen=True)
class _Planner:
    """Plans one step, knowing those before it."""

    before: tuple[Planned, ...]
    data: Mapping[str, Data]
    models: Mapping[str, Path]
    family: Path | None
    speed: float

    def step(self, number: int, table: Mapping[str, Any]) -> Planned:
        if not isinstance(table.get("step"), str):
            raise UsageError(f"step {number} does not say which it is: step = NAME")
        kind = step_of(table["step"])
        name = self._name(table, kind)
        where = f"step {number} ({name})"
        inputs = self._inputs(table, where)
        forms = tuple(self._form(n) for n in inputs)
        settings = _settings(kind, table, where)
        self._check(kind, settings, forms, where)
        used = {n: self.data[n] for n in settings.sets()}
        try:
            kind.check(settings, Plan(forms, used, self.family, self.models[TRUNK]))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        preview = Preview(
            tuple(self._size(n) for n in inputs),
            {n: len(d.rows) for n, d in used.items()},
            {n: sum(len(v) for row in d.rows for v in row.values()) // 4 for n, d in used.items()},
            self.speed,
        )
        return Planned(name, kind, settings, inputs, kind.gives(settings), kind.estimate(settings, preview))

    def _name(self, table: Mapping[str, Any], kind: Kind[Any]) -> str:
        name = table.get("name", kind.name)
        taken = {*self.models, *(s.name for s in self.before)}
        if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"step name {name!r}: use letters, digits, - and _")
        if name in taken:
            raise UsageError(f"two things are called {name!r}: give the step another name")
        return name

    def _inputs(self, table: Mapping[str, Any], where: str) -> tuple[str, ...]:
        given = table.get("from", self.before[-1].name if self.before else TRUNK)
        inputs = (given,) if isinstance(given, str) else tuple(given)
        known = [*self.models, *(s.name for s in self.before)]
        for name in inputs:
            if name not in known:
                raise UsageError(
                    f"{where} takes {name!r}, which is neither a model nor a step before it: "
                    f"known there are {', '.join(known)}"
                )
        return inputs

    def _form(self, name: str) -> Form:
        return next((s.form for s in self.before if s.name == name), "model")

    def _size(self, name: str) -> Size:
        if name in self.models:
            from .sizes import size_of

            return size_of(self.models[name])
        step = next(s for s in self.before if s.name == name)
        return step.estimate.size or self._size(step.inputs[0] if step.inputs else TRUNK)

    def _check(self, kind: Kind[Any], settings: Settings, forms: tuple[Form, ...], where: str) -> None:
        least, most = kind.takes
        if not least <= len(forms) <= most:
            asked = str(least) if least == most else f"{least} to {most}"
            raise UsageError(f"{where} takes {asked} inputs, from gives {len(forms)}")
        for form in forms:
            if form not in kind.accepts:
                raise UsageError(
                    f"{where}: {kind.name} works on {' or '.join(kind.accepts)}, its input is of form {form}"
                )
        for name in settings.sets():
            if name not in self.data:
                raise UsageError(f"{where} reads data {name!r}: there is no [data.{name}] in the recipe")


def _settings(kind: Kind[Any], table: Mapping[str, Any], where: str) -> Settings:
    values = {k: v for k, v in table.items() if k not in ENGINE_KEYS}
    try:
        found: Settings = kind.settings.model_validate(values)
    except ValidationError as error:
        known = ", ".join(kind.settings.model_fields)
        raise UsageError(f"{where}: {described(error)} (the settings of {kind.name} are {known})") from error
    return found


def _check_register(whole: Whole) -> None:
    asked = whole.recipe.register_as
    if asked is None:
        return
    step = target_of(whole)
    if step.form not in ("model", "adapter"):
        raise UsageError(
            f"register: step {step.name!r} makes a {step.form}: a model or an adapter can be registered"
        )
    place = asked.family or whole.recipe.family
    if place is None:
        raise UsageError("register: say into which family: family = NAME or DIR")
    if asked.role == "trunk" and step.form != "model":
        raise UsageError(f"register: a trunk is a model, step {step.name!r} makes an adapter")
    if not whole.recipe.licence.strip():
        raise UsageError('register: say under which licence the specialist is: licence = "..."')


def target_of(whole: Whole) -> Planned:
    """Return the step whose artifact is registered.

    Raises:
        UsageError: the recipe has no such step.
    """
    asked = whole.recipe.register_as
    makes = [s for s in whole.steps if s.form in ("model", "adapter")]
    if asked is None or asked.step is None:
        return makes[-1] if makes else whole.steps[-1]
    for step in whole.steps:
        if step.name == asked.step:
            return step
    raise UsageError(
        f"register: there is no step {asked.step!r}: there are {', '.join(s.name for s in whole.steps)}"
    )
