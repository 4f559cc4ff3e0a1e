"""A family: one folder with a trunk, the specialists over it, and the probes, vectors and policy that choose
them.

Opening a family reads two kinds of small text files; weights, probes and vectors are read when they are asked
for, so that listing families needs no torch.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..store import paths
from ..store.errors import ArtifactError, NotFoundError, PilothouseError, PluginError
from ..store.plugins import Group
from ..store.records import Artifact, Digest
from . import integrity
from .card import Card, Name, Source, Strict, parse
from .integrity import IntegrityError, inside
from .toml import dumps

if TYPE_CHECKING:
    from ..router.features.label import Label
    from ..router.features.sae import SAE
    from ..router.policy import Policy
    from ..router.probes.probe import ProbeBank
    from ..router.steer.vector import SteeringVector

logger = logging.getLogger(__name__)
FAMILIES = Group("pilothouse.specialists", "family")
FAMILY = "family.toml"
STARTER = "starter"
__all__ = ["Family", "IntegrityError", "Settings", "known_families"]


class Settings(Strict):
    """family.toml. `trunk` is a folder inside the family, `trunk_path` one elsewhere on this machine; give
    one.

    `trunk_fingerprint` is the model that everything here was made for. `scout_layers` are the decoder layers
    that probes read. `fallback` answers what no probe can route (without probes: everything).
    `licence` covers the weights, `data` what they were trained on.
    """

    format: Annotated[int, Field(ge=1, le=1)] = 1
    name: Name
    title: str = ""
    description: str = ""
    licence: str = ""
    trunk: str | None = None
    trunk_path: str | None = None
    trunk_fingerprint: Digest
    scout_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    specialists: tuple[Name, ...] = Field(min_length=1)
    fallback: Name | None = None
    policy: str = "policy.json"
    data: tuple[Source, ...] = ()

    def save(self, folder: Path) -> None:
        """Write `family.toml`; `integrity.seal` comes after all files are written."""
        (folder / FAMILY).write_text(dumps(self.model_dump(exclude_none=True)), encoding="utf-8")


class Family:
    """A family folder, opened. Raises nothing later that could have been said at `open`, but for weights."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings

    @classmethod
    def open(cls, place: str | Path = STARTER) -> Family:
        """Open a family by name (`starter`, or one in the user's families folder) or by path.

        Raises:
            NotFoundError: there is no such family.
            ArtifactError: its family.toml or a card is missing, damaged, or has unknown keys.
            IntegrityError: a path leaves the family folder.
        """
        folder = find(place)
        family = cls(folder, parse(Settings, folder / FAMILY))
        family._check()
        return family

    def _check(self) -> None:
        at, settings = self.folder / FAMILY, self.settings
        if (settings.trunk is None) == (settings.trunk_path is None):
            raise ArtifactError(
                f"{at} must give either trunk (a folder inside) or trunk_path (a folder elsewhere)"
            )
        for relative in (settings.trunk, settings.policy):
            if relative is not None:
                inside(self.folder, relative)
        if settings.fallback is not None and settings.fallback not in settings.specialists:
            raise ArtifactError(
                f"{at} names the fallback {settings.fallback!r}, which is no specialist of it"
            )
        for name, card in self.cards.items():
            if card.parent_sha256 not in (None, settings.trunk_fingerprint):
                raise ArtifactError(
                    f"specialist {name!r} was made for the model {str(card.parent_sha256)[:12]}…, this trunk "
                    f"is {settings.trunk_fingerprint[:12]}…: remove it, or make it again for this trunk"
                )

    @property
    def name(self) -> str:
        """The family's name."""
        return self.settings.name

    @cached_property
    def cards(self) -> dict[str, Card]:
        """The specialists' cards, in the order of family.toml."""
        return {n: Card.load(self.specialist_folder(n)) for n in self.settings.specialists}

    def card(self, name: str) -> Card:
        """Return one specialist's card.

        Raises:
            NotFoundError: there is no such specialist; the message names those there are.
        """
        if name not in self.cards:
            raise NotFoundError(
                f"family {self.name!r} has no specialist {name!r}: it has {', '.join(self.cards)}"
            )
        return self.cards[name]

    def specialist_folder(self, name: str) -> Path:
        """Return the folder of a specialist."""
        return inside(self.folder, f"specialists/{name}")

    @property
    def trunk_folder(self) -> Path:
        """The trunk's model folder."""
        if self.settings.trunk is not None:
            return inside(self.folder, self.settings.trunk)
        return Path(str(self.settings.trunk_path)).expanduser()

    @property
    def scout_layers(self) -> tuple[int, ...]:
        """The decoder layers that probes, dictionaries and explanations read."""
        return self.settings.scout_layers

    @property
    def fallback(self) -> str | None:
        """Who answers what no probe can route."""
        return self.settings.fallback

    @cached_property
    def manifest(self) -> dict[str, str]:
        """SHA-256 of every file by its relative path, as recorded when the family was sealed."""
        return integrity.manifest_of(self.folder)

    def verify(self) -> None:
        """Hash every file and compare with the manifest; compare the trunk with the family's fingerprint.

        Raises:
            IntegrityError: a file is missing, truncated, tampered with, or not listed; or the trunk is
                another one.

        """
        integrity.verify(self.folder)
        found = integrity.model_fingerprint(self.trunk_folder)
        if found != self.trunk_fingerprint:
            raise IntegrityError(
                f"{self.trunk_folder} is the model {found[:12]}…, family {self.name!r} was made for "
                f"{self.trunk_fingerprint[:12]}…: give it that trunk, or make a family for this one"
            )

    @property
    def trunk_fingerprint(self) -> str:
        """The model that this family's adapters, probes and vectors were made for."""
        return self.settings.trunk_fingerprint

    # -- what needs torch: read when asked for ------------------------------------------------------------

    @cached_property
    def policy(self) -> Policy | None:
        """The routing policy; None where the family has no policy file."""
        path = inside(self.folder, self.settings.policy)
        if not path.is_file():
            return None
        from ..router.policy import Policy

        return Policy.load(path)

    @cached_property
    def bank(self) -> ProbeBank | None:
        """The probes; None for a family without any, which routes everything to its fallback.

        Raises:
            ArtifactError: a probe is damaged, or was made for another model.
        """
        folder = self.folder / "probes"
        if not folder.is_dir():
            return None
        from ..router.probes.probe import ProbeBank

        bank = ProbeBank.load(folder)
        bank.require(self.trunk_fingerprint)
        return bank

    @cached_property
    def vectors(self) -> dict[str, SteeringVector]:
        """The steering vectors by name.

        Raises:
            ArtifactError: a vector is damaged, or was made for another model.
        """
        found = {}
        for path in sorted((self.folder / "vectors").glob("*/vector.json")):
            from ..router.fingerprint import require
            from ..router.steer.vector import SteeringVector

            vector = SteeringVector.load(path.parent)
            require(vector.fingerprint, self.trunk_fingerprint, f"steering vector {vector.name!r}")
            found[vector.name] = vector
        return found

    @cached_property
    def saes(self) -> dict[str, SAE]:
        """The sparse autoencoders by the name of their site (a folder below features/).

        Raises:
            ArtifactError: one is damaged, or was trained on another model's states.
        """
        found = {}
        for path in sorted((self.folder / "features").glob("*/cfg.json")):
            from ..router.features.sae import SAE
            from ..router.fingerprint import require

            sae = SAE.load(path.parent)
            if sae.fingerprint:  # dictionaries from elsewhere name no model; their check sample speaks
                require(sae.fingerprint, self.trunk_fingerprint, f"the SAE at {path.parent.name}")
            found[path.parent.name] = sae
        return found

    @property
    def sae(self) -> SAE | None:
        """The sparse autoencoder of the deepest layer; None where there is none."""
        return max(self.saes.values(), key=lambda sae: sae.layer, default=None)

    @cached_property
    def labels(self) -> dict[str, dict[int, Label]]:
        """The labels of each site's features."""
        found = {}
        for site in self.saes:
            path = self.folder / "features" / site / "labels.jsonl"
            if path.is_file():
                from ..router.features.label import load_labels

                found[site] = load_labels(path)
        return found

    def artifacts(self) -> tuple[Artifact, ...]:
        """Everything here that changes an answer, each with one SHA-256 over its files."""
        groups: dict[tuple[str, str], dict[str, str]] = {}
        for relative, digest in self.manifest.items():
            groups.setdefault(_artifact_of(relative, self), {})[relative] = digest
        found = [
            Artifact(kind="trunk", name=self.name, sha256=self.trunk_fingerprint, path=str(self.trunk_folder))
        ]
        for (kind, name), files in sorted(groups.items()):
            path = str(Path(next(iter(files))).parent)
            found.append(Artifact(kind=kind, name=name, sha256=integrity.combined(files), path=path))
        return tuple(found)


ROUTER = "router"  # the folder of a routing policy that decides in place of the probes
ROOMS = {"probes": "probe", "vectors": "vector", "features": "sae"}


def _artifact_of(relative: str, family: Family) -> tuple[str, str]:
    """Say which artifact a file belongs to."""
    parts = Path(relative).parts
    if relative == family.settings.policy:
        return "policy", "policy"
    if len(parts) > 2 and parts[0] == "specialists":
        card = family.cards.get(parts[1])
        return (card.kind if card is not None else "specialist"), parts[1]
    if len(parts) > 2 and parts[0] in ROOMS:
        return ROOMS[parts[0]], parts[1]
    if parts[0] == ROUTER:
        return "router", ROUTER
    if parts[0] == (family.settings.trunk or "").split("/")[0]:
        return "trunk-files", family.name
    return "family", family.name


def find(place: str | Path) -> Path:
    """Return the folder of a family named by name or path.

    Raises:
        NotFoundError: there is none; the message names those there are.
        PluginError: the installed package that brings it is broken.
    """
    name, own = str(place), _users()
    if FAMILIES.owns(name) or (name not in own and name in FAMILIES.names()):
        return _brought(name, FAMILIES.make(name))
    if name in own:
        return own[name]
    path = Path(place).expanduser()
    if (path / FAMILY).is_file():
        return path
    if path.is_dir():
        raise NotFoundError(f"{path} holds no {FAMILY}: it is no family; `pilothouse family new` makes one")
    known = dict.fromkeys((*FAMILIES.names(), *own))
    raise NotFoundError(
        f"there is no family {name!r}: known are {', '.join(known) or 'none'}; or give a path"
    )


def known_families() -> dict[str, Path]:
    """Return the families that open by name: the starter, those in the user's families folder, and those
    that installed packages bring (the entries of `pilothouse.specialists`, functions that return a folder).

    A package that is broken is left out with a warning.
    """
    users, found = _users(), dict[str, Path]()
    for name, folder in FAMILIES.make_all():
        if name in users and not FAMILIES.owns(name):
            continue
        try:
            found[name] = _brought(name, folder)
        except PilothouseError as error:
            logger.warning("%s", error)
    return found | {name: folder for name, folder in users.items() if name not in found}


def _users() -> dict[str, Path]:
    """The families in the user's folder."""
    return {
        path.parent.name: path.parent for path in sorted((paths.data_dir() / "families").glob(f"*/{FAMILY}"))
    }


def _brought(name: str, folder: object) -> Path:
    """The folder that a package gave for a family. Raises PluginError where it holds none."""
    if not isinstance(folder, str | Path) or not (Path(folder) / FAMILY).is_file():
        raise PluginError(
            f"family {name!r} of an installed package lies at {str(folder)!r}, where there is no {FAMILY}; "
            "install that package again, or mend it"
        )
    return Path(folder)


def starter() -> Path:
    """Where the embedded family lies."""
    return Path(__file__).parent / STARTER / "family"
