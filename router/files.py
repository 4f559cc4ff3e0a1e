"""Files of small artifacts: one JSON head and one safetensors body, written whole, read with plain errors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..store.errors import ArtifactError
from ..store.hashes import canonical


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object at `path`. Raises ArtifactError when it is missing or no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); restore the file") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}); restore the file") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} holds a {type(value).__name__}, not a JSON object; restore the file")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` whole or not at all. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    replace(path, text)


def replace(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def read_tensors(path: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises ArtifactError when it is missing, damaged, or lacks
    one of `names`. They lie where new tensors lie, not as in the file: some processors sum a row that is not
    aligned in another order, and what goes on from a file must go on to the bit.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as safetensors ({error}); restore the file") from error
    missing = [name for name in names if name not in tensors]
    if missing:
        raise ArtifactError(f"{path} lacks {missing}; it holds {sorted(tensors)}; restore the file")
    return {name: tensor.clone() for name, tensor in tensors.items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    body = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(body, part, metadata=metadata)
    part.replace(path)


def head_field(head: Mapping[str, Any], name: str, path: Path) -> Any:
    """Return `head[name]`. Raises ArtifactError when the head of the artifact at `path` lacks it."""
    if name not in head:
        raise ArtifactError(f"{path} lacks the field {name!r}; it has {sorted(head)}; restore the file")
    return head[name]


def sha256_of(head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the digest of an artifact's meaning: its head as canonical JSON, then each tensor by name."""
    digest = hashlib.sha256(canonical(dict(head)).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).numpy().tobytes())
    return digest.hexdigest()
