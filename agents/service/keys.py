"""The keys of the service: made at random, shown once, kept as digests.

A key has 256 random bits, so a plain SHA-256 cannot be guessed backwards; no slow hash is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError

from ...store.errors import NotFoundError, StoreReadOnlyError, UsageError
from ...store.records import Digest, Frozen, Time, utc_now

Scope = Literal["ask", "audit"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
MARK = "ph"


class Key(Frozen):
    """What is kept of a key. `id` is its public part, by which it is listed and revoked."""

    id: str
    name: str = Field(min_length=1, max_length=100)
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: Digest
    created_at: Time = Field(default_factory=utc_now)
    revoked_at: Time | None = None


class _File(Frozen):
    keys: tuple[Key, ...] = ()


class Keys:
    """The file of keys. It is read again when it changed, so that a revoked key is refused at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def find(self, secret: str) -> Key | None:
        """The key that `secret` is, if it is one and was not revoked."""
        parts = secret.split("-")
        if len(parts) != 3 or parts[0] != MARK:
            return None
        key = self._read().get(parts[1])
        digest = key.sha256 if key is not None else "0" * 64
        same = hmac.compare_digest(digest, _digest(secret))
        return key if same and key is not None and key.revoked_at is None else None

    def all(self) -> tuple[Key, ...]:
        """Every key, revoked ones too, in the order they were made."""
        return tuple(self._read().values())

    def add(self, name: str, scopes: Sequence[Scope]) -> tuple[Key, str]:
        """Make a key; return what is kept of it, and the secret, which is never to be had again.

        Raises UsageError for an unknown scope or an empty name.
        """
        number = secrets.token_hex(4)
        secret = f"{MARK}-{number}-{secrets.token_urlsafe(32).replace('-', '_')}"
        try:
            key = Key(id=number, name=name, scopes=tuple(dict.fromkeys(scopes)), sha256=_digest(secret))
        except ValidationError as error:
            raise UsageError(
                f"a key needs a name of 1 to 100 characters and scopes out of {', '.join(SCOPES)}; got "
                f"{name!r} and {', '.join(scopes) or 'none'}"
            ) from error
        with self._changing() as keys:
            keys[key.id] = key
        return key, secret

    def revoke(self, number: str) -> Key:
        """Refuse a key from now on. Raises NotFoundError when there is none of that id."""
        with self._changing() as keys:
            if number not in keys:
                raise NotFoundError(f"there is no key {number!r}; `pilothouse serve key list` shows them")
            found = keys[number]
            keys[number] = found.model_copy(update={"revoked_at": found.revoked_at or utc_now()})
        return keys[number]

    def _read(self) -> dict[str, Key]:
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return {}
        seen = (state.st_mtime_ns, state.st_ino, state.st_size)
        if seen != self._seen:
            self._keys, self._seen = _load(self.path), seen
        return self._keys

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Key]]:
        """The keys, to be changed and written back whole; one process at a time."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                keys = dict(_load(self.path)) if self.path.exists() else {}
                yield keys
                _save(self.path, keys.values())
        except OSError as error:
            raise StoreReadOnlyError(
                f"the keys cannot be written to {self.path} ({error.strerror}); make the folder writable"
            ) from error


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _load(path: Path) -> dict[str, Key]:
    try:
        read = _File.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UsageError(f"the keys in {path} cannot be read; correct the file, or remove it") from error
    return {key.id: key for key in read.keys}


def _save(path: Path, keys: Sequence[Key] | object) -> None:
    body = _File(keys=tuple(keys)).model_dump(mode="json")  # type: ignore[arg-type]
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(json.dumps(body, indent=1) + "\n")
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
