"""Refits on disk: what was learned for a family, which one is in force, and which were before.

The family's folder is never changed: a refit lies over it, in the data folder, as one JSON file whose name is
its digest. `state.json` names the one in force; taking it back is one line less there.
"""

from __future__ import annotations

import logging
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from ..router.files import replace
from ..router.policy import Policy
from ..router.probes.probe import ProbeBank
from ..router.recalibrate import Map
from ..store import paths
from ..store.errors import ArtifactError, NotFoundError, UsageError
from ..store.hashes import canonical, digest
from ..store.records import Artifact, Frozen, Time
from .refit import Judgement

if TYPE_CHECKING:
    from ..specialists.family import Family

logger = logging.getLogger(__name__)


class Refit(Frozen):
    """What was learned for one family. `probes` are the SHA-256 of all its `correct` probes, by specialist.

    `serving` is the policy that was judged against, and `over` the name of the refit in force then: `maps`
    correct what it said, whose own maps are `base`.
    """

    family: str
    made_at: Time
    probes: dict[str, str]
    serving: Policy
    over: str | None = None
    base: dict[str, Map] = Field(default_factory=dict)
    maps: dict[str, Map]
    policy: Policy
    taught_until: Time
    taught_by: int
    notes: tuple[str, ...] = ()
    judgement: Judgement

    @property
    def sha256(self) -> str:
        """Digest of every field."""
        return digest(canonical(self.model_dump(mode="json")))

    @property
    def name(self) -> str:
        """The first digits of the digest."""
        return self.sha256[:12]

    @property
    def artifact(self) -> Artifact:
        """What the log says of it beside every answer."""
        return Artifact(kind="refit", name=self.name, sha256=self.sha256)

    @property
    def whole(self) -> dict[str, Map]:
        """The maps over the family's own probabilities."""
        names = dict.fromkeys([*self.base, *self.maps])
        same = Map()
        return {name: self.maps.get(name, same).following(self.base.get(name, same)) for name in names}

    def fits(self, bank: ProbeBank) -> bool:
        """Whether the family still has the probes that this was made for."""
        return self.probes == digests(bank)

    def applied(self, bank: ProbeBank) -> ProbeBank:
        """The same probes with corrected calibrations."""
        maps = self.whole
        return ProbeBank(
            replaced(probe, calibration=maps[probe.name].after(probe.calibration))
            if probe.kind == "correct" and probe.name in maps
            else probe
            for probe in bank.probes
        )


def digests(bank: ProbeBank) -> dict[str, str]:
    """SHA-256 of every `correct` probe, by specialist."""
    return {probe.name: probe.sha256 for probe in bank.probes if probe.kind == "correct"}


class State(Frozen):
    """Names of the refits promoted so far, in order; the last one is in force."""

    promoted: tuple[str, ...] = ()

    @property
    def current(self) -> str | None:
        """The one in force."""
        return self.promoted[-1] if self.promoted else None


class Refits:
    """The refits of one family."""

    def __init__(self, family: str, folder: Path | None = None) -> None:
        self.family = family
        self.folder = (folder or paths.data_dir() / "refits") / family

    def save(self, refit: Refit) -> Path:
        """Keep a refit; it changes nothing until it is promoted."""
        path = self.folder / f"{refit.name}.json"
        replace(path, refit.model_dump_json(indent=1) + "\n")
        return path

    def all(self) -> list[Refit]:
        """Every refit, oldest first."""
        found = [self._read(path) for path in self.folder.glob("*.json") if path.name != "state.json"]
        return sorted(found, key=lambda one: one.made_at)

    def get(self, name: str) -> Refit:
        """The refit of that name, or of its first characters; `last` is the newest.

        Raises NotFoundError when there is none, UsageError when several are meant.
        """
        every = self.all()
        found = every[-1:] if name == "last" else [one for one in every if one.name.startswith(name)]
        if not found:
            have = ", ".join(one.name for one in every) or "none; make one with `pilothouse route refit`"
            raise NotFoundError(f"there is no refit {name!r} of {self.family}: there is {have}")
        if len(found) > 1:
            raise UsageError(f"refit {name!r} could mean {', '.join(one.name for one in found)}")
        return found[0]

    def state(self) -> State:
        """Which refits are in force."""
        path = self.folder / "state.json"
        if not path.exists():
            return State()
        try:
            return State.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, OSError) as error:
            raise ArtifactError(f"{path} cannot be read; correct or remove it") from error

    def promote(self, refit: Refit) -> None:
        """Put a refit in force: the next opening of the family uses it."""
        self._set(State(promoted=(*self.state().promoted, refit.name)))

    def rollback(self) -> str | None:
        """Take the last promotion back; return the name of what is in force now, None for the family itself.

        Raises UsageError when nothing was promoted.
        """
        before = self.state().promoted
        if not before:
            raise UsageError(f"no refit of {self.family} is in force; there is nothing to take back")
        self._set(State(promoted=before[:-1]))
        return self.state().current

    def _set(self, state: State) -> None:
        replace(self.folder / "state.json", state.model_dump_json() + "\n")

    def _read(self, path: Path) -> Refit:
        try:
            refit = Refit.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, OSError) as error:
            raise ArtifactError(
                f"{path} is no refit or cannot be read; remove it, or make it again"
            ) from error
        if refit.name != path.stem:
            raise ArtifactError(f"{path} was changed: its content has the digest {refit.name}; make it again")
        return refit


def in_force(family: Family) -> Refit | None:
    """The promoted refit of a family; None where there is none, or the family's probes are other ones now."""
    kept = Refits(family.name)
    name = kept.state().current
    if name is None or family.bank is None:
        return None
    refit = kept.get(name)
    if refit.fits(family.bank):
        return refit
    logger.warning("the refit %s was made for other probes of %s, and is not used", name, family.name)
    return None
