"""Whether a family's files are the ones that were made: a manifest of SHA-256, and paths that stay inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..router.fingerprint import fingerprint
from ..store import paths
from ..store.errors import ArtifactError
from .weights import PICKLES, read_json

MANIFEST = "manifest.json"
ACTIVE = {".safetensors", ".json", ".jsonl", ".toml", ".jinja", ".txt", ".model", *PICKLES}


class IntegrityError(ArtifactError):
    """A family's file is missing, truncated, tampered with, or lies outside the family."""


def inside(folder: Path, relative: str) -> Path:
    """Return `folder/relative`, which must lie inside `folder`, links followed.

    Raises:
        IntegrityError: the path is absolute, climbs with `..`, or a link leads outside.
    """
    pure = PurePosixPath(relative)
    path = folder / pure
    escapes = pure.is_absolute() or ".." in pure.parts or "\\" in relative or "\0" in relative
    if escapes or not path.resolve().is_relative_to(folder.resolve()):
        raise IntegrityError(
            f"path {relative!r} leaves the family folder {folder}: only paths inside it are read"
        )
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        IntegrityError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read ({error.strerror}): restore it") from error


def combined(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 over named digests, in the order of their names."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def files_of(folder: Path) -> Iterator[str]:
    """Name the files that change answers, relative to `folder`: weights and settings, not documents or
    leftovers.
    """
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith((".", "__")) for part in relative.parts)
        if path.is_file() and path.suffix in ACTIVE and not hidden and relative.as_posix() != MANIFEST:
            yield relative.as_posix()


def seal(folder: Path) -> dict[str, str]:
    """Write and return the manifest of a family as it is now.

    Raises:
        IntegrityError: it holds pickled weights, or a link that leads outside.
    """
    found = {name: sha256_of(inside(folder, name)) for name in _safe(folder)}
    part = folder / f".{MANIFEST}.part"
    part.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(folder / MANIFEST)
    return found


def _safe(folder: Path) -> list[str]:
    names = list(files_of(folder))
    for name in names:
        if Path(name).suffix in PICKLES:
            raise IntegrityError(
                f"{folder / name} is a pickle, which can run code when read: convert it to safetensors"
            )
    return names


def manifest_of(folder: Path) -> dict[str, str]:
    """Read a family's manifest.

    Raises:
        IntegrityError: it is missing or damaged.
    """
    if not (folder / MANIFEST).is_file():
        raise IntegrityError(f"{folder / MANIFEST} is missing: restore it, or reinstall the family")
    found = read_json(folder / MANIFEST)
    if not all(isinstance(v, str) for v in found.values()):
        raise IntegrityError(f"{folder / MANIFEST} holds something else than digests: restore it")
    return found


def verify(folder: Path) -> dict[str, str]:
    """Compare every file with the manifest, and return the manifest.

    Raises:
        IntegrityError: names the first file that is missing, changed, or not listed.
    """
    wanted = manifest_of(folder)
    for name, digest in sorted(wanted.items()):
        path = inside(folder, name)
        if not path.is_file():
            raise IntegrityError(f"{path} is missing: restore it, or reinstall the family")
        found = sha256_of(path)
        if found != digest:
            size = path.stat().st_size
            raise IntegrityError(
                f"{path} was changed or truncated (SHA-256 {found[:12]}…, {size:,} bytes; the manifest says "
                f"{digest[:12]}…): restore it, or reinstall the family"
            )
    strangers = sorted(set(_safe(folder)) - set(wanted))
    if strangers:
        raise IntegrityError(
            f"{folder / strangers[0]} is not in the manifest: remove it, or reinstall the family"
        )
    return wanted


def model_fingerprint(folder: Path) -> str:
    """Return `router.fingerprint.fingerprint` of a model folder, remembered until a file's size or time
    changes.

    Gigabytes of weights take seconds to hash, so the digest is kept in the cache folder; without a writable
    cache it is computed each time.

    Raises:
        ArtifactError: the folder is no model folder.

    """
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    if sum(f.stat().st_size for f in files if f.is_file()) < 1 << 26:
        return fingerprint(folder)
    state = [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    memo = paths.cache_dir() / "fingerprints" / key
    try:
        return memo.read_text(encoding="ascii")
    except OSError:
        found = fingerprint(folder)
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        memo.write_text(found, encoding="ascii")
    except OSError:
        pass  # a read-only cache only costs time
    return found
