"""Fingerprints: which model a probe, dictionary or vector was made for. Needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..store.errors import ArtifactError

_CHUNK = 1 << 20


def fingerprint(model_folder: Path | str) -> str:
    """Return the SHA-256 over a model folder's `config.json` and `*.safetensors`, names included.

    Raises ArtifactError when the folder has no configuration or no weights, or cannot be read.
    """
    folder = Path(model_folder)
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    if len(files) < 2:
        raise ArtifactError(f"{folder} holds no *.safetensors; a model folder has weights; restore them")
    digest = hashlib.sha256()
    try:
        for path in files:
            digest.update(f"{path.name}\n{path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
    except OSError as error:
        raise ArtifactError(
            f"{error.filename} cannot be read ({error.strerror}); restore the file"
        ) from error
    return digest.hexdigest()


def require(expected: str, found: str, what: str = "artifact") -> None:
    """Raises ArtifactError when `what` was made for the model `expected`, and the model here is `found`."""
    if expected != found:
        raise ArtifactError(
            f"{what} was made for the model {expected[:12] or '(none)'}…, this one is {found[:12]}…; a "
            "probe or vector says nothing about another model's states; fit it again for this model"
        )
