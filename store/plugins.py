"""What installed packages add by name, through Python's entry points; what this program itself brings is
found the same way.

A group lists its names without importing anything. An entry is imported when somebody asks for it by name,
and then works or fails loudly; one that nobody asked for can break nothing.
"""

from __future__ import annotations

import logging
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from .errors import PilothouseError, PluginError, UsageError

logger = logging.getLogger(__name__)
OWN = "pilothouse"


class Entry(NamedTuple):
    """Where a name leads: `module:attribute`, and the package that says so (its name and version)."""

    name: str
    point: EntryPoint
    package: str

    @property
    def own(self) -> bool:
        """Whether this program itself brings it."""
        return self.package.partition(" ")[0] == OWN


@dataclass(frozen=True)
class Group:
    """One group of entry points, as `pilothouse.engines`; `noun` is what errors call its entries."""

    name: str
    noun: str

    def entries(self) -> dict[str, tuple[Entry, ...]]:
        """Every name with where it leads: several places where packages disagree. Nothing is imported.

        This program's own names cannot be taken by a package.
        """
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in _declared(self.name, tuple(sys.path)):
            if all(entry.point.value != other.point.value for other in found[entry.name]):
                found[entry.name].append(entry)
        return {name: tuple(filter(_is_own, places)) or tuple(places) for name, places in found.items()}

    def names(self) -> tuple[str, ...]:
        """The names, this program's own first. Nothing is imported."""
        places = self.entries()
        return tuple(sorted(places, key=lambda name: (not places[name][0].own, name)))

    def owns(self, name: str) -> bool:
        """Whether this program itself brings the name."""
        return any(map(_is_own, self.entries().get(name, ())))

    def require(self, name: str) -> None:
        """Raise UsageError, listing the names there are, unless `name` is one."""
        if name in (names := self.names()):
            return
        raise UsageError(
            f"{self.noun} {name!r} is unknown: use one of {', '.join(map(repr, names)) or 'none'}, or "
            f"install a package that brings it (entry point group {self.name})"
        )

    def load(self, name: str) -> Any:
        """Import what `name` stands for: a function or class.

        Raises UsageError for an unknown name, PluginError when it cannot be imported or several packages
        claim it.
        """
        self.require(name)
        places = self.entries()[name]
        if len(places) > 1:
            packages = " and ".join(place.package for place in places)
            raise PluginError(f"{self.noun} {name!r} is claimed by {packages}; uninstall all but one of them")
        entry = places[0]
        try:
            found = entry.point.load()
        except PilothouseError:
            raise
        except (Exception, SystemExit) as error:
            raise self._broken(entry, "cannot be loaded", error) from error
        if not callable(found):
            raise PluginError(
                f"{self.noun} {name!r} of {entry.package} ({entry.point.value}) is a {type(found).__name__}, "
                "not a function or class; mend that package, or uninstall it"
            )
        return found

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Load `name` and call it. Raises as `load`, and PluginError for whatever a package's own call raises
        that is no PilothouseError.
        """
        maker, entry = self.load(name), self.entries()[name][0]
        if entry.own:
            return maker(*arguments, **options)
        try:
            return maker(*arguments, **options)
        except PilothouseError:
            raise
        except (Exception, SystemExit) as error:
            raise self._broken(entry, "failed", error) from error

    def make_all(self) -> Iterator[tuple[str, Any]]:
        """Each name with what its call gives; one that is broken is left out with a warning."""
        for name in self.names():
            try:
                yield name, self.make(name)
            except PilothouseError as error:
                logger.warning("%s", error)

    def _broken(self, entry: Entry, how: str, error: BaseException) -> PluginError:
        return PluginError(
            f"{self.noun} {entry.name!r} of {entry.package} ({entry.point.value}) {how} "
            f"({type(error).__name__}: {error}); mend that package, or uninstall it"
        )


def _is_own(entry: Entry) -> bool:
    return entry.own


@lru_cache(maxsize=64)
def _declared(group: str, path: tuple[str, ...]) -> tuple[Entry, ...]:
    """What every package on this path declares for a group; and a checkout that is not installed, or was
    installed before it declared the group, what its project file says.
    """
    found = [
        Entry(point.name, point, f"{point.dist.name} {point.dist.version}" if point.dist else "a package")
        for point in _installed(path).select(group=group)
    ]
    if not any(map(_is_own, found)):
        points = [EntryPoint(name, value, group) for name, value in _of_checkout().get(group, {}).items()]
        found += [Entry(point.name, point, OWN) for point in points]
    return tuple(found)


@lru_cache(maxsize=8)
def _installed(path: tuple[str, ...]) -> Any:
    """Every entry point on this path. Reading them takes ten milliseconds, so it is done once."""
    return entry_points()


@lru_cache(maxsize=1)
def _of_checkout() -> Mapping[str, Mapping[str, str]]:
    path = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if not path.is_file():
        return {}
    project = tomllib.loads(path.read_text("utf-8"))["project"]
    groups: Mapping[str, Mapping[str, str]] = project["entry-points"]
    return groups
